// aimock in the place of the simulator's two providers, for the other clients: the same numbered words, from a server that
// somebody else wrote. Serves until it is ended.
import { LLMock } from '@copilotkit/aimock';

const words = (who) => Array.from({ length: 12 }, (_, number) => `${who}:${number}`).join(' ');

for (const [who, port] of Object.entries({ openai: process.env.LAB_MOCK_FIRST, azure: process.env.LAB_MOCK_SECOND })) {
  const mock = new LLMock({ port: Number(port), logLevel: 'silent' });
  const calls = (request) => ({ toolCalls: [{ name: request.tools[0].function.name, arguments: '{"city":"Paris"}' }] });
  mock.on({ predicate: (request) => request.tools?.length > 0 }, calls);
  mock.on({ predicate: (request) => request.response_format?.type === 'json_schema' }, { content: '{"city":"Paris"}' });
  mock.on({}, { content: words(who) }, { chunkSize: 7 });
  await mock.start();
}
console.log('ready');
