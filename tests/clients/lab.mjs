// What every node client here shares; the Python one, lab.py, says more about each.
import assert from 'node:assert/strict';

export { assert };
const { LAB_URL, LAB_KEY, LAB_CONTROL, LAB_ADMIN, LAB_ROUTE } = process.env;
export const URL = LAB_URL, KEY = LAB_KEY, BASE = `${LAB_URL}/v1`, ROUTE = LAB_ROUTE ?? 'gpt-4-router';

const statuses = [429, 500, 503, 401, 404, 408].map((code) => [`${code}`, { status: { code } }]);
export const BEFORE_CONTENT = Object.fromEntries([
  ...statuses,
  ['refuse', 'refuse'], ['reset on accept', 'accept_reset'], ['hang before headers', { hang: 'before_headers' }],
  ['reset after request', { reset: 'after_request' }], ['html', { malformed: 'html' }],
]);
export const BEFORE_CONTENT_OF_STREAMS = {
  'hang after headers': { hang: 'after_headers' }, 'role only': { hang: 'before_first_content' },
  'error in a 200': { in_band_error: { at: 0, form: 'openai' } }, 'json to a stream': { malformed: 'json_to_stream' },
};
export const AFTER_CONTENT = {
  'reset': { reset: { after_events: 6 } }, 'close': { close: { after_events: 6 } }, 'close inside an event': { close: { after_bytes: 900 } },
  'hang': { hang: { after_events: 6 } }, 'no DONE': { truncate: 'no_done' }, 'chunked without an end': { truncate: 'chunked' },
  'error in the stream': { in_band_error: { at: 6, form: 'openai' } },
};

async function call(method, url, body) {
  const answer = await fetch(url, { method, headers: { 'content-type': 'application/json' }, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert(answer.ok, `${method} ${url}: ${answer.status} ${text}`);
  return text.trim() ? JSON.parse(text) : null;
}

export const fault = (backend, it, rule = {}) => call('PUT', `${LAB_CONTROL}/backends/${backend}/rules`, [{ fault: it, ...rule }]);
export const settings = (backend, changes) => call('PATCH', `${LAB_CONTROL}/backends/${backend}/settings`, changes);
export const received = async (backend) => (await call('GET', `${LAB_CONTROL}/backends/${backend}/requests`)).requests;

export async function reset() {
  await call('POST', `${LAB_CONTROL}/reset`);
  for (const { name } of (await call('GET', `${LAB_ADMIN}/admin/status`)).backends) {
    await call('POST', `${LAB_ADMIN}/admin/backends/${name}/circuit`, { action: 'reset', blocks: true });
  }
}

// The backend that spoke, if it is one whole sentence.
export function speaker(text) {
  const parts = text.trim().split(/\s+/).map((part) => part.split(':'));
  assert.equal(new Set(parts.map(([name]) => name)).size, 1, `not one speaker: ${text}`);
  assert.deepEqual(parts.map(([, number]) => Number(number)), parts.map((_, index) => index), `lost or doubled: ${text}`);
  return parts[0][0];
}

export async function raises(run) {
  let got;
  try {
    got = await run();
  } catch (error) {
    return error;
  }
  assert.fail(`no error, but ${JSON.stringify(got)}`);
}

export async function wait(what, look, limit = 5000) {
  for (const until = Date.now() + limit; Date.now() < until;) {
    const found = await look();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  assert.fail(`${what} did not come within ${limit} ms`);
}

const cases = [];
export const test = (name, run) => cases.push([name, run]);

export async function main() {
  const wanted = process.argv.slice(2);
  const chosen = cases.filter(([name]) => !wanted.length || wanted.some((part) => name.includes(part)));
  let failed = 0;
  for (const [name, run] of chosen) {
    await reset();
    try {
      await run();
      if (process.env.LAB_VERBOSE) console.log(`  ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`  FAILED ${name}\n`, error);
    }
  }
  console.log(`  ${chosen.length - failed} of ${chosen.length} cases`);
  process.exit(failed || !chosen.length ? 1 : 0);
}
