// Echoes messages over gRPC for Node: node echo.js HOST:PORT; prints the port when it serves.
const grpc = require("@grpc/grpc-js");
const raw = (bytes) => bytes;
const method = {
  path: "/Echo/Echo", requestStream: true, responseStream: true,
  requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw,
};
const server = new grpc.Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
server.addService({ Echo: method }, {
  Echo: (call) => {
    call.on("data", (message) => call.write(message));
    call.on("end", () => call.end());
  },
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
