// A worker in JavaScript that counts primes.
//
//     ripieno up --worker "node worker.js"           (it finds its address in RIPIENO_WORKER_ADDRESS)
//
// A payload is JSON: {"from": 2, "to": 1000} counts the primes of a range, {"add": true} adds up what the task
// depends on. The result is the number, in decimal digits. The other side is client.js.
import { once } from "node:events";
import { Worker, grpc } from "./protocol.js";

class TaskFailed extends Error {} // the task cannot be done, and trying again would not help

// What the agent sends first: the task, the rest of its payload, its data dependencies.
async function receive(call) {
  const requests = call[Symbol.asyncIterator]();
  const next = async () => (await requests.next()).value.compute;
  const untilComplete = async (kind, pieces = []) => {
    for (let chunk; (chunk = (await next())[kind]).type === "data"; ) pieces.push(chunk.data);
    return Buffer.concat(pieces);
  };
  const init = (await next()).init_request;
  const payload = await untilComplete("payload", [init.payload.data]);
  const data = new Map();
  for (let datum; (datum = (await next()).init_data).type === "key"; ) {
    data.set(datum.key, await untilComplete("data"));
  }
  const chunk = init.configuration.data_chunk_max_size;
  return { keys: init.expected_output_keys, payload, data, chunk };
}

// A stream whose reader is slow says so: then wait.
async function send(call, reply) {
  if (!call.write(reply)) await once(call, "drain");
}

async function sendResult(call, task, key, bytes) {
  // The id of a reply is ours to choose.
  const reply = (result) => send(call, { request_id: key, result });
  await reply({ init: { key } });
  for (let at = 0; at < bytes.length; at += task.chunk) {
    await reply({ data: { data: bytes.subarray(at, at + task.chunk) } });
  }
  await reply({ data: { data_complete: true } });
  await reply({ init: { last_result: true } });
}

function compute(task) {
  let asked;
  try {
    asked = JSON.parse(task.payload.toString());
  } catch (error) {
    throw new TaskFailed(`the payload is not JSON: ${error.message}`);
  }
  if (asked.add) return [...task.data.values()].reduce((sum, each) => sum + Number(each.toString()), 0);
  if (!Number.isSafeInteger(asked.from) || !Number.isSafeInteger(asked.to)) {
    throw new TaskFailed(`from and to are integers, not ${asked.from} and ${asked.to}`);
  }
  let primes = 0;
  candidates: for (let n = Math.max(asked.from, 2); n < asked.to; n++) {
    for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) continue candidates;
    primes++;
  }
  return primes;
}

// One attempt. Whatever is thrown ends the call with an error status: the attempt failed, and may be repeated.
async function process_(call) {
  const task = await receive(call);
  try {
    await sendResult(call, task, task.keys[0], Buffer.from(String(compute(task))));
    await send(call, { output: { ok: {} } });
  } catch (error) {
    if (!(error instanceof TaskFailed)) throw error;
    await send(call, { output: { error: { details: error.message } } }); // final: the task is not tried again
  }
  call.end();
}

const address = process.env.RIPIENO_WORKER_ADDRESS ?? process.argv[2];
if (!address) {
  console.error("usage: node worker.js ADDRESS (unix:/path or HOST:PORT), or set RIPIENO_WORKER_ADDRESS");
  process.exit(2);
}
const server = new grpc.Server({ "grpc.max_receive_message_length": -1 });
server.addService(Worker.service, {
  Process: (call) =>
    process_(call).catch((error) => call.emit("error", { code: grpc.status.INTERNAL, details: error.message })),
  HealthCheck: (_call, callback) => callback(null, { status: "SERVING" }),
});
server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log(`worker ready on ${address}`);
});
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => server.tryShutdown(() => process.exit(0)));
