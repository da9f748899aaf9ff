// openai-node and its AzureOpenAI.
import OpenAI, { APIConnectionTimeoutError, AuthenticationError, AzureOpenAI, BadRequestError, InternalServerError, NotFoundError, toFile } from 'openai';
import * as lab from './lab.mjs';

const { assert, test, fault, raises, received, speaker, ROUTE } = lab;
const client = new OpenAI({ baseURL: lab.BASE, apiKey: lab.KEY, maxRetries: 0, timeout: 20_000 });
const azure = new AzureOpenAI({ endpoint: lab.URL, apiVersion: '2024-10-21', apiKey: lab.KEY, maxRetries: 0 });
const ASK = { model: ROUTE, messages: [{ role: 'user', content: 'hello' }], max_tokens: 12 };
const TOOLS = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } }];

const ask = async (who = client, more = {}) => (await who.chat.completions.create({ ...ASK, ...more })).choices[0].message.content;

async function stream(who = client, more = {}, so_far = { text: '' }) {
  for await (const chunk of await who.chat.completions.create({ ...ASK, stream: true, ...more })) {
    so_far.text += chunk.choices[0]?.delta?.content ?? '';
    so_far.finish = chunk.choices[0]?.finish_reason ?? so_far.finish;
    so_far.usage = chunk.usage ?? so_far.usage;
  }
  return so_far;
}

test('plain and streamed', async () => {
  assert.equal(speaker(await ask()), 'openai');
  const { text, finish, usage } = await stream();
  assert.deepEqual([speaker(text), finish, usage], ['openai', 'stop', undefined]);
  assert.equal((await stream(client, { stream_options: { include_usage: true } })).usage.completion_tokens, 12);
  const { response } = await client.chat.completions.create(ASK).withResponse();
  assert.equal(response.headers.get('x-breakwater-backend'), 'openai');
});

test('tools', async () => {
  const made = await client.chat.completions.create({ ...ASK, tools: TOOLS });
  assert.equal(made.choices[0].message.tool_calls[0].function.name, 'weather');
  const final = await client.chat.completions.stream({ ...ASK, tools: TOOLS }).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, 'weather');
});

test('embeddings, responses, files, transcriptions', async () => {
  assert.ok((await client.embeddings.create({ model: 'embed-router', input: 'a' })).data[0].embedding.length);
  const made = await client.responses.create({ model: ROUTE, input: 'hello' });
  assert.equal(speaker(made.output_text), 'openai');
  assert.ok((await client.responses.create({ model: ROUTE, input: 'x', previous_response_id: made.id })).output_text);
  let text = '';
  for await (const event of await client.responses.create({ model: ROUTE, input: 'hello', stream: true })) {
    if (event.type === 'response.output_text.delta') text += event.delta;
  }
  assert.equal(speaker(text), 'openai');
  const file = await client.files.create({ file: await toFile(Buffer.from('{}\n'), 'in.jsonl'), purpose: 'batch' });
  assert.equal((await client.files.retrieve(file.id)).id, file.id);
  assert.ok((await client.audio.transcriptions.create({ model: 'whisper-router', file: await toFile(Buffer.alloc(9000), 'a.wav') })).text);
});

test('models, keys, errors', async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(ROUTE), names);
  assert.equal((await raises(() => ask(client, { model: 'nobody' }))).code, 'model_not_found');
  assert.ok((await raises(() => ask(client, { model: 'nobody' }))) instanceof NotFoundError);
  assert.ok((await raises(() => ask(new OpenAI({ baseURL: lab.BASE, apiKey: 'wrong', maxRetries: 0 })))) instanceof AuthenticationError);
  await fault('openai', { status: { code: 400, body: 'context_length' } });
  const long = await raises(() => ask());
  assert.ok(long instanceof BadRequestError && long.code === 'context_length_exceeded', long);
});

test('nobody can serve and the client asks once', async () => {
  for (const backend of ['openai', 'azure']) await fault(backend, { status: { code: 500 } });
  assert.ok((await raises(() => ask(client.withOptions({ maxRetries: 2 })))) instanceof InternalServerError);
  assert.deepEqual([(await received('openai')).length, (await received('azure')).length], [1, 1]);
});

test('a short wait is waited for by the client', async () => {
  for (const backend of ['openai', 'azure']) await fault(backend, { status: { code: 429, retry_after: { seconds: 1 } } }, { count: 1 });
  assert.ok(speaker(await ask(client.withOptions({ maxRetries: 2 }))));
});

test('a client that leaves takes its call along', async () => {
  await lab.settings('openai', { tokens_per_second: 5 });
  for await (const _ of await client.chat.completions.create({ ...ASK, stream: true })) break;
  const [call] = await lab.wait("the call's end", async () => {
    const ended = (await received('openai')).filter((it) => it.ended);
    return ended.length && ended;
  });
  assert.equal(call.ended, 'client_closed');
});

test('a client with less patience than the provider has a timeout', async () => {
  await fault('openai', { hang: 'before_headers' });
  assert.ok((await raises(() => ask(client.withOptions({ timeout: 200 })))) instanceof APIConnectionTimeoutError);
});

test('azure clients', async () => {
  assert.equal(speaker(await ask(azure)), 'openai');
  assert.equal(speaker((await stream(azure)).text), 'openai');
  const named = new AzureOpenAI({ endpoint: lab.URL, deployment: ROUTE, apiVersion: '2024-10-21', apiKey: lab.KEY });
  assert.equal(speaker(await ask(named, { model: 'ignored' })), 'openai');
});

for (const [name, rule] of Object.entries(lab.BEFORE_CONTENT)) {
  test(`failover: ${name}`, async () => {
    await fault('openai', rule);
    assert.equal(speaker(await ask()), 'azure');
  });
}
for (const [name, rule] of Object.entries({ ...lab.BEFORE_CONTENT, ...lab.BEFORE_CONTENT_OF_STREAMS })) {
  test(`failover: ${name}, stream`, async () => {
    await fault('openai', rule);
    const { text, finish } = await stream();
    assert.deepEqual([speaker(text), finish], ['azure', 'stop']);
  });
}
for (const [name, rule] of Object.entries(lab.AFTER_CONTENT)) {
  test(`broken stream: ${name}`, async () => {
    await fault('openai', rule);
    const so_far = { text: '' };
    const error = await raises(() => stream(client, {}, so_far));
    assert.equal(speaker(so_far.text), 'openai');
    assert.ok(rule.in_band_error || ['stream_interrupted', 'stream_idle_timeout'].includes(error.code), error);
    assert.equal((await received('azure')).length, 0);
  });
}

await lab.main();
