#!/usr/bin/env python3
"""A counter in Python, served to Tidegate over HTTP and protobuf. Needs Python 3.9 or newer, nothing else.

    tidegate serve                                    the proxy, on port 9001
    python3 examples/python/counter_host.py           this host: listens, registers the actor `counter`, serves
    python3 examples/python/counter_host.py invoke    calls `increment` once and prints the count

Stop the host or the proxy and start it again: the count goes on, for it is kept by the proxy and comes with
every call. PROXY_HTTP_PORT (9001) and USER_FUNCTION_PORT (8090; 0: any) say where the two listen.
"""
import os
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROXY = f"http://127.0.0.1:{os.environ.get('PROXY_HTTP_PORT', '9001')}"
SYSTEM, ACTOR = "spawn-system", "counter"
COUNT_TYPE = "type.googleapis.com/google.protobuf.Int64Value"

# --- protobuf, as much of it as is needed: https://protobuf.dev/programming-guides/encoding/ ---------------


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def field(number, value):
    """One field: an int as a varint, text and bytes with their length in front."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """The fields of a message by number; of a repeated one, the last."""
    found, at = {}, 0

    def read_varint():
        nonlocal at
        number = shift = 0
        while True:
            byte, at = message[at], at + 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(message):
        key = read_varint()
        value = read_varint()  # the number itself, or how many bytes follow
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        found[key >> 3] = value
    return found


# --- the actor; numbers are those of proto/eigr/functions/protocol/actors/*.proto --------------------------


def increment(invocation):
    """ActorInvocation in, ActorInvocationResponse out. The state is an Any that holds an Int64Value."""
    context = fields(invocation.get(3, b""))
    state = fields(context.get(1, b""))
    count = fields(state.get(2, b"")).get(1, 0) + 1
    state = field(1, COUNT_TYPE) + field(2, field(1, count))
    updated_context = field(1, state)
    return field(1, ACTOR) + field(2, SYSTEM) + field(3, updated_context) + field(4, state)


class Host(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        invocation = fields(self.rfile.read(int(self.headers["Content-Length"])))
        action = invocation[2].decode()
        status, body = (200, increment(invocation)) if action == "increment" else (400, b"no such action")
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def post(path, body, headers={}):
    headers = {"Content-Type": "application/octet-stream", **headers}
    return urllib.request.urlopen(urllib.request.Request(PROXY + path, body, headers), timeout=30).read()


def register(port):
    actor_id = field(1, ACTOR) + field(2, SYSTEM)
    settings = field(1, 1) + field(2, 1)  # kind NAMED, stateful
    actor = field(1, actor_id) + field(2, b"") + field(3, settings) + field(4, field(1, "increment"))
    registry = field(1, field(1, ACTOR) + field(2, actor))
    system = field(1, SYSTEM) + field(2, registry)
    service = field(1, "counter-python") + field(6, 1) + field(7, 1)
    # Tidegate calls this address back; without the header it calls USER_FUNCTION_HOST:USER_FUNCTION_PORT.
    here = {"tidegate-host": f"http://127.0.0.1:{port}"}
    post("/api/v1/system", field(1, service) + field(2, system), here)


def invoke():
    actor = field(1, field(1, ACTOR) + field(2, SYSTEM))
    request = field(1, field(1, SYSTEM)) + field(2, actor) + field(3, "increment") + field(7, b"")
    response = fields(post(f"/api/v1/system/{SYSTEM}/actors/{ACTOR}/invoke", request))
    return fields(fields(response[4])[2])[1]


def serve():
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("USER_FUNCTION_PORT", "8090"))), Host)
    server.daemon_threads = True  # it accepts from here on: the proxy may call before it answers
    for attempt in range(60):
        try:
            register(server.server_port)
            break
        except urllib.error.HTTPError as error:
            sys.exit(f"the proxy refused: {error.read()}")
        except OSError as error:
            print(f"no proxy at {PROXY} yet ({error}); start `tidegate serve`", file=sys.stderr)
            time.sleep(1)
    else:
        sys.exit("gave up")
    print(f"registered `{ACTOR}`; serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    try:
        print(f"{ACTOR} is {invoke()}") if sys.argv[1:] == ["invoke"] else serve()
    except urllib.error.HTTPError as error:
        sys.exit(f"the proxy answered {error.code}: {error.read()}")
    except OSError as error:
        sys.exit(f"no proxy at {PROXY} ({error}); start `tidegate serve`")
    except KeyboardInterrupt:
        pass
