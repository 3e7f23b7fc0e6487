"""A chat-completion endpoint on loopback that speaks as the OpenAI API does, and says what the test wants it to."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NONCE = re.compile(r'"nonce": "([0-9a-f]{32})"')


def nonce_of(body):
    """The nonce that the reply must bear."""
    return NONCE.search(body["messages"][0]["content"]).group(1)


def material_of(body):
    """What the model is to read, between its two lines."""
    first, *material, last = body["messages"][1]["content"].split("\n")
    assert first == last == nonce_of(body)
    return json.loads("\n".join(material))


def graded(score, reason="because"):
    """What an honest judge replies."""
    return lambda body: json.dumps({"nonce": nonce_of(body), "score": score, "reason": reason})


class ChatServer:
    """`reply` is a callable of the request's body that gives a text, or (status, body)."""

    def __init__(self, reply=None):
        self.reply = reply or graded(7)
        self.requests, self.keys = [], []
        self.busy = self.busiest = 0
        self.finish_reason = "stop"
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(body)
                    outer.keys.append(self.headers["Authorization"])
                    outer.busy += 1
                    outer.busiest = max(outer.busy, outer.busiest)
                said = outer.reply(body)
                with lock:
                    outer.busy -= 1
                status, answer = said if isinstance(said, tuple) else (200, outer.completion(body, said))
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # a client that hung up
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def completion(self, body, text):
        message = {"role": "assistant", "content": text}
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }

    def close(self):
        self.http.shutdown()
        self.http.server_close()
