// The official openai package for Node.

import OpenAI from "openai";
import { VERSION } from "openai/version";
import { all, cutShort, errorOf, model, poorKey, prompts, tool } from "./seen.js";

const client = new OpenAI();
const ask = (prompt, more = {}, through = client) =>
  through.chat.completions.create({ model, messages: [{ role: "user", content: prompt }], ...more });
const text = async (prompt) => (await ask(prompt)).choices[0].message.content;

async function* pieces(prompt) {
  for await (const chunk of await ask(prompt, { stream: true })) {
    const piece = chunk.choices[0]?.delta.content;
    if (piece) yield piece;
  }
}

const called = await ask(prompts.tool, { tools: [{ type: "function", function: tool }] });
const call = called.choices[0].message.tool_calls[0].function;
const wrong = new OpenAI({ apiKey: "sk-neev-wrong" });

console.log(
  JSON.stringify({
    version: VERSION,
    chat: await text(prompts.chat),
    stream: await all(pieces(prompts.stream)),
    tool: { name: call.name, arguments: JSON.parse(call.arguments) },
    broken_stream: await cutShort(pieces(prompts.broken_stream)),
    bad_request: await errorOf(() => ask(prompts.chat, { temperature: 3 })),
    wrong_key: await errorOf(() => ask(prompts.chat, {}, wrong)),
    over_budget: await errorOf(() => ask(prompts.chat, {}, new OpenAI({ apiKey: poorKey }))),
    unknown_model: await errorOf(() => ask(prompts.chat, { model: "no-such-model" })),
    retried: await text(prompts.retried),
    waited: await text(prompts.waited),
    gave_up: await errorOf(() => ask(prompts.gave_up)),
  }),
);
