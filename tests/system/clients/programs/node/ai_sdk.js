// Vercel's AI SDK with its provider for OpenAI-compatible services; the SDK calls the tool and asks again.

import { createRequire } from "node:module";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, streamText, tool as toolOf } from "ai";
import { all, cutShort, errorOf, model, poorKey, prompts, tool } from "./seen.js";

const provider = (apiKey) =>
  createOpenAICompatible({ name: "neev", baseURL: process.env.OPENAI_BASE_URL, apiKey });
const neev = provider(process.env.OPENAI_API_KEY);
const ask = (prompt, more = {}) => generateText({ model: neev(model), prompt, ...more });
const text = async (prompt) => (await ask(prompt)).text;

// `textStream` ends silently at an error; `fullStream` has the error as a part.
async function* pieces(prompt) {
  const { fullStream } = streamText({ model: neev(model), prompt, onError: () => {} });
  for await (const part of fullStream) {
    if (part.type === "text-delta") yield part.text;
    if (part.type === "error") throw part.error;
  }
}

const asked = [];
const weather = toolOf({
  description: tool.description,
  inputSchema: jsonSchema(tool.parameters),
  execute: async (input) => {
    asked.push(input);
    return "sunny";
  },
});
const afterTool = await ask(prompts.tool, { tools: { [tool.name]: weather }, stopWhen: isStepCount(3) });

console.log(
  JSON.stringify({
    version: createRequire(import.meta.url)("ai/package.json").version,
    chat: await text(prompts.chat),
    stream: await all(pieces(prompts.stream)),
    tool: { name: tool.name, arguments: asked[0], then: afterTool.text },
    broken_stream: await cutShort(pieces(prompts.broken_stream)),
    bad_request: await errorOf(() => ask(prompts.chat, { temperature: 3 })),
    wrong_key: await errorOf(() => ask(prompts.chat, { model: provider("sk-neev-wrong")(model) })),
    over_budget: await errorOf(() => ask(prompts.chat, { model: provider(poorKey)(model) })),
    unknown_model: await errorOf(() => ask(prompts.chat, { model: neev("no-such-model") })),
    retried: await text(prompts.retried),
    waited: await text(prompts.waited),
    gave_up: await errorOf(() => ask(prompts.gave_up)),
  }),
);
