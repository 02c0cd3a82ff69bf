// A durable counter. Needs `tidegate serve`; docs/json.md of Tidegate has all that an action may answer.
//
//     npm install
//     npm start
//     curl localhost:9001/api/v1/system/demo/actors/counter/invoke -H 'content-type: application/json' -d '{"action": "increment"}'
import express from "express";

const { USER_FUNCTION_PORT: port = "8090", PROXY_HTTP_PORT: proxy = "9001" } = process.env;
const app = express().use(express.json({ limit: "8mb" }));

app.post("/api/v1/actors/actions", ({ body: call }, answer) => {
  const by = call.payload?.by ?? 1;
  if (by < 1) return answer.status(422).json({ reason: "it only counts up" }); // the state stays; the caller gets this
  const count = { count: (call.state?.count ?? 0) + by };
  answer.json({ self: call.self, state: count, payload: count });
});

app.listen(Number(port), "127.0.0.1", async () => {
  const registered = await fetch(`http://127.0.0.1:${proxy}/api/v1/system`, {
    method: "POST",
    headers: { "content-type": "application/json", "tidegate-host": `http://127.0.0.1:${port}` },
    body: JSON.stringify({ system: "demo", actors: [{ name: "counter", actions: ["increment"] }] }),
  });
  if (!registered.ok) throw new Error(await registered.text());
});
