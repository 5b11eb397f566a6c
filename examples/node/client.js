// A client in JavaScript: counts the primes below a number on a cluster, in parts, and prints how many there are.
//
//     node client.js [LIMIT]        (the cluster is at RIPIENO_ADDRESS, or 127.0.0.1:5001)
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { Submitter, grpc } from "./protocol.js";

const PARTS = 8;
const WAIT_MS = 60_000;
// A call that may be repeated is repeated by gRPC itself while no server answers.
const RETRIES = {
  methodConfig: [{
    name: ["CreateSmallTasks", "WaitForAvailability"].map((method) => ({ service: "ArmoniK.api.grpc.v1.Submitter", method })),
    retryPolicy: {
      maxAttempts: 5, initialBackoff: "0.2s", maxBackoff: "2s", backoffMultiplier: 2, retryableStatusCodes: ["UNAVAILABLE"],
    },
  }],
};

const limit = Number(process.argv[2] ?? 200_000);
const submitter = new Submitter(process.env.RIPIENO_ADDRESS || "127.0.0.1:5001", grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify(RETRIES),
});
const call = (method, request) =>
  promisify(submitter[method]).call(submitter, request, { deadline: Date.now() + WAIT_MS });

// Wait for a result and fetch it; an error says why it will never exist.
async function result(session, key) {
  const available = await call("WaitForAvailability", { session, key });
  if (available.type === "error") {
    const { task_id, errors } = available.error;
    const reasons = errors.map((each) => `${each.task_status}: ${each.detail}`);
    throw new Error(`task '${task_id}' did not make it: ${reasons.join("; ")}`);
  }
  const pieces = [];
  for await (const reply of submitter.TryGetResultStream({ session, key })) {
    if (reply.result?.type === "data") pieces.push(reply.result.data);
  }
  return Buffer.concat(pieces).toString();
}

const session = randomUUID();
const created = await call("CreateSession", {
  id: session,
  default_task_option: { max_duration: { seconds: 30 }, max_retries: 2, priority: 1 },
});
// That an id is taken is no error of the call.
if (created.result === "error") throw new Error(created.error);

try {
  // Task ids are global, so ours carry the session's; keys are per session.
  const tasks = Array.from({ length: PARTS }, (_, part) => ({
    id: `${session} part ${part}`,
    expected_output_keys: [`part ${part}`],
    payload: Buffer.from(JSON.stringify({
      from: Math.floor((limit * part) / PARTS), to: Math.floor((limit * (part + 1)) / PARTS),
    })),
  }));
  tasks.push({
    id: `${session} total`,
    expected_output_keys: ["total"],
    data_dependencies: tasks.map((task) => task.expected_output_keys[0]),
    payload: Buffer.from('{"add": true}'),
  });
  await call("CreateSmallTasks", { session_id: session, task_requests: tasks }); // all or none; durable from here on
  console.log(`${await result(session, "total")} primes below ${limit}`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await call("CancelSession", { id: session }); // in case of an error: nothing runs for nobody
  submitter.close();
}
