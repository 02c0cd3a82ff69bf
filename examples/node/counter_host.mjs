#!/usr/bin/env node
/* A counter in JavaScript, served to Tidegate over HTTP and protobuf. Needs Node 18 or newer, nothing else.

     tidegate serve                                    the proxy, on port 9001
     node examples/node/counter_host.mjs               this host: listens, registers the actor `counter`, serves
     node examples/node/counter_host.mjs invoke        calls `increment` once and prints the count

   Stop the host or the proxy and start it again: the count goes on, for it is kept by the proxy and comes with
   every call. PROXY_HTTP_PORT (9001) and USER_FUNCTION_PORT (8090; 0: any) say where the two listen. */
import { createServer } from "node:http";

const PROXY = `http://127.0.0.1:${process.env.PROXY_HTTP_PORT || 9001}`;
const [SYSTEM, ACTOR] = ["spawn-system", "counter"];
const COUNT_TYPE = "type.googleapis.com/google.protobuf.Int64Value";

// --- protobuf, as much of it as is needed: https://protobuf.dev/programming-guides/encoding/ ---------------

function varint(number) {
  const out = [];
  for (number = BigInt(number); number > 127n; number >>= 7n) out.push(Number(number & 127n) | 128);
  return Buffer.from([...out, Number(number)]);
}

/** One field: a number as a varint, text and bytes with their length in front. */
function field(number, value) {
  if (typeof value === "number" || typeof value === "bigint") return Buffer.concat([varint(number << 3), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

const message = (...fields) => Buffer.concat(fields);

/** The fields of a message by number; of a repeated one, the last. */
function fields(bytes = Buffer.alloc(0)) {
  const found = {};
  let at = 0;
  const readVarint = () => {
    for (let number = 0n, shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      number |= BigInt(byte & 127) << shift;
      if (byte < 128) return number;
    }
  };
  while (at < bytes.length) {
    const key = Number(readVarint());
    let value = readVarint(); // the number itself, or how many bytes follow
    if ((key & 7) === 2) value = bytes.subarray(at, (at += Number(value)));
    found[key >> 3] = value;
  }
  return found;
}

// --- the actor; numbers are those of proto/eigr/functions/protocol/actors/*.proto --------------------------

/** ActorInvocation in, ActorInvocationResponse out. The state is an Any that holds an Int64Value. */
function increment(invocation) {
  const context = fields(invocation[3]);
  const count = (fields(fields(context[1])[2])[1] ?? 0n) + 1n;
  const state = message(field(1, COUNT_TYPE), field(2, field(1, count)));
  const updatedContext = field(1, state);
  return message(field(1, ACTOR), field(2, SYSTEM), field(3, updatedContext), field(4, state));
}

const host = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const invocation = fields(Buffer.concat(chunks));
  const known = String(invocation[2]) === "increment";
  response.writeHead(known ? 200 : 400, { "Content-Type": "application/octet-stream" });
  response.end(known ? increment(invocation) : "no such action");
});

async function post(path, body, headers = {}) {
  headers = { "Content-Type": "application/octet-stream", ...headers };
  const response = await fetch(PROXY + path, { method: "POST", body, headers, signal: AbortSignal.timeout(30_000) });
  const answer = Buffer.from(await response.arrayBuffer());
  if (!response.ok) {
    console.error(`the proxy answered ${response.status}: ${answer}`);
    process.exit(1);
  }
  return answer;
}

async function register(port) {
  const actorId = message(field(1, ACTOR), field(2, SYSTEM));
  const settings = message(field(1, 1), field(2, 1)); // kind NAMED, stateful
  const actor = message(field(1, actorId), field(2, ""), field(3, settings), field(4, field(1, "increment")));
  const registry = field(1, message(field(1, ACTOR), field(2, actor)));
  const system = message(field(1, SYSTEM), field(2, registry));
  const service = message(field(1, "counter-node"), field(6, 1), field(7, 1));
  // Tidegate calls this address back; without the header it calls USER_FUNCTION_HOST:USER_FUNCTION_PORT.
  const here = { "tidegate-host": `http://127.0.0.1:${port}` };
  await post("/api/v1/system", message(field(1, service), field(2, system)), here);
}

async function invoke() {
  const actor = field(1, message(field(1, ACTOR), field(2, SYSTEM)));
  const request = message(field(1, field(1, SYSTEM)), field(2, actor), field(3, "increment"), field(7, ""));
  const response = fields(await post(`/api/v1/system/${SYSTEM}/actors/${ACTOR}/invoke`, request));
  return fields(fields(response[4])[2])[1];
}

async function serve() {
  // It accepts before it registers: the proxy may call before it answers.
  await new Promise((listening) => host.listen(Number(process.env.USER_FUNCTION_PORT || 8090), "127.0.0.1", listening));
  const { port } = host.address();
  for (let attempt = 1; ; attempt++) {
    try {
      await register(port);
      break;
    } catch (error) {
      if (attempt === 60) throw error;
      console.error(`no proxy at ${PROXY} yet (${error.cause?.code ?? error}); start \`tidegate serve\``);
      await new Promise((later) => setTimeout(later, 1_000));
    }
  }
  console.log(`registered \`${ACTOR}\`; serving on http://127.0.0.1:${port}`);
}

try {
  if (process.argv[2] === "invoke") console.log(`${ACTOR} is ${await invoke()}`);
  else await serve();
} catch (error) {
  console.error(`no proxy at ${PROXY} (${error.cause?.code ?? error}); start \`tidegate serve\``);
  process.exit(1);
}
