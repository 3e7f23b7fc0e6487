"""`openai/NAME` with the real client, against a server on loopback that answers as the API does, or as it should not."""

import base64
import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from exp_pool import Experience
from exp_pool.api.registry import embedder_maker
from exp_pool.errors import EmbedderError
from exp_pool.search.embedders.openai import OpenAIEmbedder

KEY = "sk-test-very-secret"


def vector(text):
    return [float(len(text)), float(sum(map(ord, text)) % 1000), 1.0]


def embeddings(body):
    """What the API answers."""
    data = []
    for index, text in enumerate(body["input"]):
        assert text, "the API refuses empty texts"
        values = np.asarray(vector(text), dtype="<f4")
        wanted = base64.b64encode(values).decode() if body.get("encoding_format") == "base64" else values.tolist()
        data.append({"object": "embedding", "index": index, "embedding": wanted})
    return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 1, "total_tokens": 1}}


class Server:
    """Answers with what was put into `answers`, (status, headers, body), then as the API does."""

    def __init__(self):
        self.requests, self.keys, self.answers = [], [], []
        self.hang, self.released = threading.Event(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                outer.keys.append(self.headers["Authorization"])
                if outer.hang.is_set():
                    outer.released.wait(60)
                status, headers, answer = outer.answers.pop(0) if outer.answers else (200, {}, embeddings)
                answer = answer(body) if callable(answer) else answer
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
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

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield server
    server.close()


@pytest.fixture
def made(server):
    """Embedders whose connections are closed before the test ends."""
    embedders = []

    def make(**options):
        embedders.append(OpenAIEmbedder("text-embedding-3-small", **options))
        return embedders[-1]

    yield make
    for embedder in embedders:
        for client in embedder._clients.values():
            client.close()


def error(status, message="no", **more):
    return status, {}, {"error": {"message": message, "type": "t", **more}}


def test_texts_come_back_as_vectors_in_order(server, made):
    texts = ["a", "", "Grüße 你好", "\ud800 alone", "a\0b"]
    found = made().embed(texts)
    sent = ["a", " ", "Grüße 你好", "? alone", "a\0b"]
    assert server.requests[0]["input"] == sent
    assert server.requests[0]["model"] == "text-embedding-3-small"
    assert server.keys == [f"Bearer {KEY}"]
    assert found.tolist() == [vector(text) for text in sent]


def test_shuffled_answers_are_put_in_order(server, made):
    server.answers = [(200, {}, lambda body: embeddings(body) | {"data": embeddings(body)["data"][::-1]})]
    assert made().embed(["a", "bb", "ccc"]).tolist() == [vector("a"), vector("bb"), vector("ccc")]


def test_a_server_that_knows_no_base64(server, made):
    server.answers = [(200, {}, lambda body: embeddings({**body, "encoding_format": "float"}))]
    assert made().embed(["a", "bb"]).tolist() == [vector("a"), vector("bb")]


def test_batches_stay_within_what_the_api_takes(server, made):
    texts = [f"text {i}" for i in range(5000)] + ["word " * 5000] * 50
    found = made().embed(texts)
    assert found.shape == (5050, 3)
    assert [row[0] for row in found.tolist()] == [float(min(len(text), 8191)) for text in texts]
    for request in server.requests:
        assert len(request["input"]) <= 2048
        assert sum(len(text.encode()) for text in request["input"]) <= 300_000
        assert max(len(text.encode()) for text in request["input"]) <= 8191


def test_what_is_cut_off_is_said(made):
    texts = ["", "x" * 8191, "x" * 8192, "é" * 4095, "é" * 4096]
    assert made().fits(texts) == [True, True, False, True, False]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_fails_in_passing_is_asked_again(server, made, status):
    server.answers = [(status, {"Retry-After": "0"}, {"error": {"message": "later"}})] * 3
    assert made().embed(["a"]).tolist() == [vector("a")]
    assert len(server.requests) == 4


def test_retry_after_is_followed(server, made):
    """The server wants more time than there is: it is not asked in vain. Less: it is."""
    server.answers = [(429, {"Retry-After": "3600"}, {"error": {"message": "later"}})]
    with pytest.raises(EmbedderError, match="too many requests") as caught:
        made().embed(["a"])
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert len(server.requests) == 1
    server.answers = [(429, {"retry-after-ms": "20"}, {"error": {"message": "later"}})]
    assert made().embed(["a"]).tolist() == [vector("a")]


def test_an_empty_account_is_not_waited_for(server, made):
    server.answers = [error(429, code="insufficient_quota")] * 2
    with pytest.raises(EmbedderError, match="nothing left to pay with"):
        made().embed(["a"])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "set another OPENAI_API_KEY"),
        (error(404, "The model does not exist"), "no such model.*The model does not exist"),
        (error(400, "too long"), "the request is refused.*too long"),
        ((200, {}, b"<html>welcome</html>"), "no embeddings"),
        ((200, {"Content-Type": "text/html"}, b"<html>welcome</html>"), "no embeddings"),
        ((200, {}, []), "no embeddings"),
        ((200, {}, {"data": []}), "no embeddings"),
        ((200, {}, {"data": [{"index": 0, "embedding": [1.0]}]}), "no embeddings of 2 texts"),
        ((200, {}, {"data": [{"index": i, "embedding": [1.0]} for i in (0, 1, 2)]}), "3 vectors came for 2 texts"),
        ((200, {}, {"data": [{"index": i, "embedding": [1.0]} for i in (0, 1, 1)]}), "3 vectors came for 2 texts"),
        ((200, {}, {"data": [{"index": i, "embedding": [1.0]} for i in (1, 2)]}), "no embeddings of 2 texts"),
        ((200, {}, {"data": [{"index": i, "embedding": [1.0] * (i + 1)} for i in (0, 1)]}), "no embeddings of 2"),
        ((200, {}, {"data": [{"index": i, "embedding": "!"} for i in (0, 1)]}), "no embeddings"),
        ((200, {}, {"data": [{"index": i} for i in (0, 1)]}), "no embeddings"),
        ((200, {}, {"data": None}), "no embeddings"),
    ],
)
def test_bad_answers_say_what_to_do_and_never_the_key(server, made, answer, says):
    server.answers = [answer]
    with pytest.raises(EmbedderError, match=f"(?s)text-embedding-3-small at {server.url}.*{says}") as caught:
        made().embed(["a", "b"])
    assert len(server.requests) == 1
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_hangs_costs_its_time_out(server, made):
    server.hang.set()
    with pytest.raises(EmbedderError, match="does not answer.*OPENAI_BASE_URL") as caught:
        made(timeout_s=0.1, patience_s=0.3).embed(["a"])
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_nobody_listens(server, made):
    embedder = made(patience_s=0.1)
    server.close()
    with pytest.raises(EmbedderError, match=f"{server.url}: it cannot be reached"):
        embedder.embed(["a"])


def test_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EmbedderError, match="set OPENAI_API_KEY"):
        embedder_maker("openai/text-embedding-3-small")()


def test_another_server_is_another_embedder(monkeypatch, server):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("//", "//user:hidden@"))
    assert OpenAIEmbedder("m").identity == f"openai/m@{server.url}"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert embedder_maker("openai/m")().identity == "openai/m"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
    assert embedder_maker("openai/m")().identity == "openai/m"


def test_a_pool_on_it(server, make_manager):
    manager = make_manager(embedder="openai/text-embedding-3-small")
    manager.sync.create_exps([Experience(function="f", request=text, response=text) for text in ("one", "two", "")])
    assert [e.request for e in manager.sync.query_exps("two", top_k=1)] == ["two"]
    assert manager.stats().embedded == 3
    for client in manager.sync._embeddings._embedder._clients.values():
        client.close()
