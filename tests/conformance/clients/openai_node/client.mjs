// The official client for Node.js: a plan on standard input, outcomes on standard output.
import OpenAI from "openai";
import { readFileSync } from "node:fs";

const messages = [{ role: "user", content: "hi" }];

// What is done with the client; `shown` is the part of a stream that came, should it break.
const operations = {
  chat: async (client, model) => (await client.chat.completions.create({ model, messages, max_tokens: 26 })).choices[0].message.content,
  chat_stream: async (client, model, shown) => {
    for await (const chunk of await client.chat.completions.create({ model, messages, max_tokens: 26, stream: true }))
      shown.text += chunk.choices[0].delta.content ?? "";
    return shown.text;
  },
  completion: async (client, model) => (await client.completions.create({ model, prompt: "hi", max_tokens: 26 })).choices[0].text,
  completion_stream: async (client, model, shown) => {
    for await (const chunk of await client.completions.create({ model, prompt: "hi", max_tokens: 26, stream: true }))
      shown.text += chunk.choices[0].text;
    return shown.text;
  },
  embedding: async (client, model) => (await client.embeddings.create({ model, input: "hi" })).data[0].embedding,
  response: async (client, model) => (await client.responses.create({ model, input: "hi" })).output_text,
  response_stream: async (client, model, shown) => {
    for await (const event of await client.responses.create({ model, input: "hi", stream: true }))
      if (event.type === "response.output_text.delta") shown.text += event.delta;
    return shown.text;
  },
  models: async (client) => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return ids;
  },
  model_shown: async (client, model) => (await client.models.retrieve(model)).id,
  headers: async (client, model) => {
    const { response } = await client.chat.completions.create({ model, messages, max_tokens: 1 }).withResponse();
    return Object.fromEntries(["content-type", "x-muster-attempts"].map((name) => [name, response.headers.get(name)]));
  },
};

const plan = JSON.parse(readFileSync(0, "utf8"));
for (const { id, operation, key, model } of plan.cases) {
  const client = new OpenAI({ baseURL: plan.base_url, apiKey: key, maxRetries: 0, timeout: 30_000 });
  const shown = { text: "" };
  let outcome;
  try {
    outcome = { answer: await operations[operation](client, model, shown) };
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    outcome = { error: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
    if (shown.text) outcome.partial = shown.text;
  }
  console.log(JSON.stringify({ id, ...outcome }));
}
