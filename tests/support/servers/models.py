"""A model endpoint on loopback in any of the wire formats, which says what the test wants, or fails as it wants."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.servers.wire_formats import FORMATS


@dataclass(frozen=True)
class Raw:
    """In place of an answer: these bytes."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict = field(default_factory=dict)
    content_type: str = "application/json"
    claims: int | None = None  # the Content-Length; more than there are: the connection is cut before the end


@dataclass(frozen=True)
class Cut:
    """A stream that says this and then breaks off."""

    text: str


class Hangup:
    """The connection is closed without a word."""


FAULTS = [
    Raw(500),
    Raw(503),
    Raw(429, headers={"Retry-After-Ms": "5"}),
    Hangup(),
    Raw(body=b'{"cut'),
    Raw(body=b'{"a', claims=99),
]
"""One of each that a router should get over."""


class _Http(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that hung up."""


class ModelServer:
    """`reply` is a callable of the request's body that gives a text, a `ToolCall`, or a trouble of this module.

    It runs in the request's thread: it may wait for an event. `between` is called after each event of a stream.
    """

    def __init__(self, wire="openai", name="model", reply=None):
        self.format, self.name = FORMATS[wire], name
        self.reply = reply or (lambda body: f"{name} says: {self.format.prompt(body)}")
        self.between = lambda: None
        self.requests, self.headers, self.paths = [], [], []
        self.sent = []  # the prompts that were answered
        self.busy = self.busiest = 0
        self.connections = 0
        self.well, self.checks = True, 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                with outer._lock:
                    outer.connections += 1

            def finish(self):
                with outer._lock:
                    outer.connections -= 1
                super().finish()

            def do_POST(self):
                outer._serve(self)

            def do_GET(self):
                """A health check."""
                outer.checks += 1
                outer._send(self, Raw(200 if outer.well else 503))

            def log_message(self, *_):
                pass

        self.http = _Http(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        self.url = self.base + self.format.path
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def _serve(self, http):
        body = json.loads(http.rfile.read(int(http.headers["Content-Length"])))
        with self._lock:
            self.requests.append(body)
            self.headers.append(dict(http.headers))
            self.paths.append(http.path)
            self.busy += 1
            self.busiest = max(self.busy, self.busiest)
        left = False

        def leave():
            """Before the last byte is sent: after it the client may come again."""
            nonlocal left
            if not left:
                left = True
                with self._lock:
                    self.busy -= 1

        try:
            said = self.reply(body)
            streams = self.format.streams(http.path, body)
            match said:
                case Hangup():
                    leave()
                    http.close_connection = True
                case Raw():
                    leave()
                    self._send(http, said)
                case Cut():
                    self._stream(http, list(self.format.events(self.name, said.text))[:-2], leave, whole=False)
                case str() if streams:
                    self._stream(http, self.format.events(self.name, said), leave)
                case _:
                    with self._lock:
                        self.sent.append(self.format.prompt(body))
                    leave()
                    self._send(http, Raw(body=json.dumps(self.format.whole(self.name, said)).encode()))
        finally:
            leave()

    def _send(self, http, raw):
        http.send_response(raw.status)
        http.send_header("Content-Type", raw.content_type)
        http.send_header("Content-Length", str(raw.claims or len(raw.body)))
        for name, value in raw.headers.items():
            http.send_header(name, value)
        http.end_headers()
        http.wfile.write(raw.body)
        if raw.claims:
            http.close_connection = True

    def _stream(self, http, events, leave, whole=True):
        http.send_response(200)
        http.send_header("Content-Type", "text/event-stream; charset=utf-8")
        http.send_header("Connection", "close")
        http.end_headers()
        http.close_connection = True
        for event in events:
            for part in (event[: len(event) // 2], event[len(event) // 2 :]):  # boundaries mean nothing
                http.wfile.write(part)
                http.wfile.flush()
            self.between()
        leave()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
