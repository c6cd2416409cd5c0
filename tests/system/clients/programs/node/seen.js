// What the client programs share: the prompts that the test chose, and how an error is told.

export const prompts = JSON.parse(process.env.NEEV_TEST_PROMPTS);
export const poorKey = process.env.NEEV_TEST_POOR_KEY; // its budget is used up
export const model = "gpt-oss-120b";
export const tool = {
  name: "get_weather",
  description: "The weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

// What a caller sees of the error that `call` ends with: its class, its status if it has one, its text.
export async function errorOf(call) {
  try {
    return { class: null, status: null, says: JSON.stringify(await call()) };
  } catch (error) {
    const status = error.status ?? error.statusCode ?? error.lastError?.statusCode ?? null;
    return { class: error.constructor.name, status, says: error.message ?? JSON.stringify(error) };
  }
}

// Reads a stream that breaks: the pieces that arrived before the error, and the error.
export async function cutShort(pieces) {
  const arrived = [];
  const error = await errorOf(async () => {
    for await (const piece of pieces) arrived.push(piece);
    return arrived;
  });
  return { ...error, pieces: arrived };
}

export async function all(pieces) {
  const arrived = [];
  for await (const piece of pieces) arrived.push(piece);
  return arrived;
}
