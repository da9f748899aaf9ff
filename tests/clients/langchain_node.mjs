// LangChain's ChatOpenAI for node.
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import * as lab from './lab.mjs';

const { assert, test, fault, raises, speaker } = lab;
const chat = new ChatOpenAI({ model: lab.ROUTE, apiKey: lab.KEY, maxRetries: 0, configuration: { baseURL: lab.BASE } });
const WEATHER = { type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } };

async function stream() {
  let text = '';
  for await (const part of await chat.stream('hello')) text += part.content;
  return text;
}

test('plain, streamed, tools', async () => {
  assert.equal(speaker((await chat.invoke('hello')).content), 'openai');
  assert.equal(speaker(await stream()), 'openai');
  assert.equal((await chat.bindTools([WEATHER]).invoke('hello')).tool_calls[0].name, 'weather');
});

test('embeddings', async () => {
  const client = new OpenAIEmbeddings({ model: 'embed-router', apiKey: lab.KEY, configuration: { baseURL: lab.BASE } });
  assert.ok((await client.embedQuery('a')).length);
});

test('failover', async () => {
  for (const rule of Object.values({ ...lab.BEFORE_CONTENT, ...lab.BEFORE_CONTENT_OF_STREAMS })) {
    await lab.reset();
    await fault('openai', rule);
    assert.equal(speaker(await stream()), 'azure', JSON.stringify(rule));
  }
});

test('errors and impatience', async () => {
  await fault('openai', { status: { code: 400, body: 'context_length' } });
  const long = await raises(() => chat.invoke('hello'));
  assert.match(`${long.code} ${long.name} ${long.message}`, /context/i);
  for (const backend of ['openai', 'azure']) await fault(backend, { hang: 'before_headers' });
  const late = await raises(() => new ChatOpenAI({ model: lab.ROUTE, apiKey: lab.KEY, maxRetries: 0, timeout: 300, configuration: { baseURL: lab.BASE } }).invoke('hello'));
  assert.match(`${late.name} ${late.message}`, /time/i);
});

test('broken streams', async () => {
  for (const rule of Object.values(lab.AFTER_CONTENT)) {
    await lab.reset();
    await fault('openai', rule);
    await raises(stream);
  }
});

await lab.main();
