// The AI SDK, by its OpenAI-compatible provider and by its OpenAI provider.
import { embed, generateObject, generateText, streamText, tool } from 'ai';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { z } from 'zod';
import * as lab from './lab.mjs';

const { assert, test, fault, raises, received, speaker, ROUTE } = lab;
const compatible = createOpenAICompatible({ name: 'breakwater', baseURL: lab.BASE, apiKey: lab.KEY, includeUsage: true });
const openai = createOpenAI({ baseURL: lab.BASE, apiKey: lab.KEY });
const MODELS = { compatible: compatible(ROUTE), chat: openai.chat(ROUTE), responses: openai.responses(ROUTE) };
const weather = tool({ description: 'The weather.', inputSchema: z.object({ city: z.string() }) });

// The text and how it ended; an error in the stream is thrown.
async function stream(model, more = {}) {
  let text = '', finish;
  for await (const part of streamText({ model, prompt: 'hello', maxRetries: 0, onError() {}, ...more }).fullStream) {
    if (part.type === 'text-delta') text += part.text;
    if (part.type === 'finish') finish = part.finishReason;
    if (part.type === 'error') throw Object.assign(new Error('stream failed', { cause: part.error }), { text });
  }
  return { text, finish };
}

for (const [name, model] of Object.entries(MODELS)) {
  test(`${name}: plain, streamed, tools`, async () => {
    assert.equal(speaker((await generateText({ model, prompt: 'hello', maxRetries: 0 })).text), 'openai');
    const { text, finish } = await stream(model);
    assert.deepEqual([speaker(text), finish], ['openai', 'stop']);
    const { toolCalls } = await generateText({ model, prompt: 'hello', tools: { weather }, maxRetries: 0 });
    assert.equal(toolCalls[0].toolName, 'weather');
  });
  test(`${name}: failover`, async () => {
    for (const rule of Object.values({ ...lab.BEFORE_CONTENT, ...lab.BEFORE_CONTENT_OF_STREAMS })) {
      await lab.reset();
      await fault('openai', rule);
      assert.equal(speaker((await stream(model)).text), 'azure', JSON.stringify(rule));
    }
  });
  // It takes an end without a finish reason for an end on the responses API: there the gateway's error event is all it has.
  test(`${name}: broken streams`, async () => {
    // An event stream of responses is at its first content later.
    const inside = name === 'responses' ? { 'close inside an event': { close: { after_bytes: 2600 } } } : {};
    for (const rule of Object.values({ ...lab.AFTER_CONTENT, ...inside })) {
      await lab.reset();
      await fault('openai', rule);
      const error = await raises(() => stream(model));
      assert.ok(!error.text || speaker(error.text) === 'openai', error);
      assert.equal((await received('azure')).length, 0, JSON.stringify(rule));
    }
  });
}

test('errors and impatience', async () => {
  await fault('openai', { status: { code: 400, body: 'context_length' } });
  const error = await raises(() => generateText({ model: MODELS.chat, prompt: 'hello', maxRetries: 0 }));
  assert.ok(error.statusCode === 400 && error.responseBody.includes('context_length_exceeded'), error);
  for (const backend of ['openai', 'azure']) await fault(backend, { hang: 'before_headers' });
  const late = await raises(() => generateText({ model: MODELS.chat, prompt: 'hello', maxRetries: 0, abortSignal: AbortSignal.timeout(300) }));
  assert.match(`${late.name} ${late.message}`, /abort|timeout/i);
});

test('usage of a stream', async () => {
  const result = streamText({ model: MODELS.compatible, prompt: 'hello', maxRetries: 0 });
  await result.consumeStream();
  assert.ok((await result.usage).outputTokens > 0);
});

test('typed answers and embeddings', async () => {
  const { object } = await generateObject({ model: MODELS.chat, schema: z.object({ city: z.string() }), prompt: 'hello', maxRetries: 0 });
  assert.equal(typeof object.city, 'string');
  assert.ok((await embed({ model: compatible.textEmbeddingModel('embed-router'), value: 'a' })).embedding.length);
});

await lab.main();
