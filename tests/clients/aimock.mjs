// aimock from npm as both providers: answers, streams and failures that nobody here wrote.
import { LLMock } from '@copilotkit/aimock';
import OpenAI, { toFile } from 'openai';
import * as lab from './lab.mjs';

const { assert, test, raises } = lab;
const ROUTE = 'mock-router';
const client = new OpenAI({ baseURL: lab.BASE, apiKey: lab.KEY, maxRetries: 0, timeout: 20_000 });
const ASK = { model: ROUTE, messages: [{ role: 'user', content: 'hello' }] };
const TOOLS = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } }];
const text = (who) => `${who} says: ` + Array.from({ length: 40 }, (_, number) => `word ${number}`).join(', ');

const providers = {};
for (const [who, port] of Object.entries({ first: process.env.LAB_MOCK_FIRST, second: process.env.LAB_MOCK_SECOND })) {
  const mock = providers[who] = new LLMock({ port: Number(port), logLevel: 'silent' });
  mock.on({ toolName: 'weather' }, { toolCalls: [{ name: 'weather', arguments: '{"city":"Paris"}' }] });
  mock.onMessage('break off', { content: text(who) }, { truncateAfterChunks: 5, chunkSize: 10, latency: 20 });
  mock.onMessage('hello', { content: text(who) }, { chunkSize: 10 });
  mock.onEmbedding('hello', { embedding: [0.1, 0.2, 0.3] });
  mock.onImage('cat', { image: { url: `https://${who}.example/cat.png` } });
  mock.onTranscription({ transcription: { text: `${who} heard` } });
  mock.onSpeech('hello', { audio: Buffer.from(`${who} speaks`).toString('base64') });
  await mock.start();
}
const { first } = providers;
process.on('exit', () => Object.values(providers).forEach((mock) => mock.stop()));

async function stream(more = {}, so_far = { text: '' }) {
  for await (const chunk of await client.chat.completions.create({ ...ASK, stream: true, ...more })) {
    so_far.text += chunk.choices[0]?.delta?.content ?? '';
    so_far.finish = chunk.choices[0]?.finish_reason ?? so_far.finish;
    so_far.usage = chunk.usage ?? so_far.usage;
  }
  return so_far;
}
const plain = async () => (await client.chat.completions.create(ASK)).choices[0].message.content;

test('plain, streamed, tools', async () => {
  assert.equal(await plain(), text('first'));
  assert.deepEqual(await stream(), { text: text('first'), finish: 'stop', usage: undefined });
  const made = await client.chat.completions.create({ ...ASK, tools: TOOLS });
  assert.equal(made.choices[0].message.tool_calls[0].function.arguments, '{"city":"Paris"}');
  const final = await client.chat.completions.stream({ ...ASK, tools: TOOLS }).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, '{"city":"Paris"}');
});

test('responses', async () => {
  assert.equal((await client.responses.create({ model: ROUTE, input: 'hello' })).output_text, text('first'));
  let said = '', last;
  for await (const event of await client.responses.create({ model: ROUTE, input: 'hello', stream: true })) {
    if (event.type === 'response.output_text.delta') said += event.delta;
    last = event.type;
  }
  assert.deepEqual([said, last], [text('first'), 'response.completed']);
});

test('embeddings, images, speech, transcriptions', async () => {
  assert.equal((await client.embeddings.create({ model: ROUTE, input: 'hello', encoding_format: 'float' })).data[0].embedding.length, 3);
  assert.equal((await client.images.generate({ model: ROUTE, prompt: 'cat' })).data[0].url, 'https://first.example/cat.png');
  const speech = await client.audio.speech.create({ model: ROUTE, voice: 'alloy', input: 'hello' });
  assert.equal(Buffer.from(await speech.arrayBuffer()).toString(), 'first speaks');
  assert.equal((await client.audio.transcriptions.create({ model: ROUTE, file: await toFile(Buffer.alloc(900), 'a.wav') })).text, 'first heard');
});

test('files by the backend that holds them', async () => {
  const options = { headers: { 'x-breakwater-backend': 'mock-second' } };
  const file = await client.files.create({ file: await toFile(Buffer.from('{"a":1}\n'), 'in.jsonl'), purpose: 'batch' }, options);
  assert.equal((await client.files.retrieve(file.id)).id, file.id);
  assert.equal(await (await client.files.content(file.id)).text(), '{"a":1}\n');
});

for (const [name, chaos] of Object.entries({ drop: { dropRate: 1 }, malformed: { malformedRate: 1 }, 'rate limit': { rateLimitRate: 1 }, disconnect: { disconnectRate: 1 } })) {
  test(`failover: ${name}`, async () => {
    first.setChaos(chaos);
    try {
      assert.equal(await plain(), text('second'));
      await lab.reset();
      assert.deepEqual(await stream(), { text: text('second'), finish: 'stop', usage: undefined });
    } finally {
      first.clearChaos();
    }
  });
}

test('failover: an error of the provider', async () => {
  for (const status of [401, 429, 500, 503, 529]) {
    await lab.reset();
    first.nextRequestError(status, { message: 'not now', type: 'server_error' });
    assert.equal(await plain(), text('second'), `${status}`);
  }
});

test('a stream that breaks off raises', async () => {
  const so_far = { text: '' };
  const error = await raises(() => stream({ messages: [{ role: 'user', content: 'break off' }] }, so_far));
  assert.equal(error.code, 'stream_interrupted', error);
  assert.ok(so_far.text && text('first').startsWith(so_far.text), so_far.text);
});

test('both are gone', async () => {
  for (const mock of Object.values(providers)) mock.setChaos({ disconnectRate: 1 });
  const error = await raises(plain);
  assert.equal(error.status, 502, error);
  for (const mock of Object.values(providers)) mock.clearChaos();
});

await lab.main();
