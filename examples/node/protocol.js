// The services of the protocol, loaded from the .proto files when the program starts: no code is generated.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const SOURCE = fileURLToPath(new URL("../../src/", import.meta.url)); // the files import each other from here
const FILES = ["submitter_service", "worker_service"].map((name) => `ripieno/wire/protos/armonik_v2/${name}.proto`);

// keepCase: names as in the files. oneofs: the field `type` says which case of a oneof is set.
const definition = loadSync(FILES, {
  includeDirs: [SOURCE], keepCase: true, oneofs: true, arrays: true, objects: true, enums: String,
});

export const { Submitter, Worker } = grpc.loadPackageDefinition(definition).ArmoniK.api.grpc.v1;
export { grpc };
