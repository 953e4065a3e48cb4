// The echo, or with --broadcast the fan-out, on bun, whose server is uWebSockets.
const at = process.argv.indexOf("--listen");
const [hostname, port] = process.argv[at + 1].split(":");
const isBroadcast = process.argv.includes("--broadcast");

const server = Bun.serve({
  hostname,
  port: Number(port),
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("not an upgrade", { status: 400 })),
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    maxPayloadLength: 16 << 20,
    open(socket) {
      if (isBroadcast) socket.subscribe("all");
    },
    message(socket, message) {
      if (isBroadcast) server.publish("all", message);
      else socket.send(message);
    },
  },
});
