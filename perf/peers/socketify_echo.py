"""The echo, or with --broadcast the fan-out, on socketify, a binding of uWebSockets."""

import sys

from socketify import App, AppListenOptions, CompressOptions

host, port = sys.argv[sys.argv.index("--listen") + 1].split(":")
is_broadcast = "--broadcast" in sys.argv
app = App()


def opened(ws):
    if is_broadcast:
        ws.subscribe("all")


def message(ws, payload, opcode):
    if is_broadcast:
        app.publish("all", payload, opcode)
    else:
        ws.send(payload, opcode)


app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 16 * 1024 * 1024,
        "idle_timeout": 0,
        "open": opened,
        "message": message,
    },
)
app.listen(AppListenOptions(port=int(port), host=host))
app.run()
