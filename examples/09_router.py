"""One of several models answers, and the next one where it cannot: a router behind the pool.

Two servers on this machine stand in for two providers; both speak as OpenAI's API does. A fallback answer is kept for
a minute only, so that the better model is asked again once it is back.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from loguru import logger

from exp_pool import Call, ExpManager
from exp_pool.routing import AllModelsFailed, ConcurrentRouter, ModelEndpoint


class Provider(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that can be told to be down."""

    down = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f"{body['model']} says: {body['messages'][-1]['content'].upper()}"
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
        }
        content = json.dumps({"error": "overloaded"} if self.down else answer).encode()
        self.send_response(503 if self.down else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def provider(kind: type[Provider]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        server.shutdown()


class Large(Provider):
    pass


class Small(Provider):
    pass


def fresh_for(call: Call, _answer: str) -> str | None:
    return "1m" if call.strategy == "fallback" else None  # for ever


async def ask_both(large: str, small: str) -> None:
    endpoints = [
        ModelEndpoint("large", large, max_concurrent=2, price_in=2.5, price_out=10.0),
        ModelEndpoint("small", small, max_concurrent=8, priority=1, retries=0),
    ]
    async with (
        ExpManager(store="memory://", index="none://", embedder="none") as pool,
        ConcurrentRouter(endpoints, strategy="priority", deadline=30) as router,
    ):

        @pool.exp_cache(name="ask", ttl=fresh_for)
        async def ask(prompt: str) -> str:
            routed = await router.route_request(prompt, max_tokens=50)
            return str(routed["response"])

        print(await ask("hello"), "(and again from the pool:", await ask("hello"), end=")\n")
        many = await asyncio.gather(*(ask(f"question {number}") for number in range(8)))
        print(f"{len(many)} at once, never more than two at the large model")

        Large.down = True
        print(await ask("are you there"))
        Small.down = True
        try:
            await ask("is anybody there")
        except AllModelsFailed as err:
            print("nobody answers:", err.attempts[-1]["error"])

        async for experience in pool.iter_exps({"request": {"in": ["hello", "are you there"]}}):
            kept = "for a minute" if experience.expires_at else "for ever"
            print(
                f"{experience.request!r}: [{experience.strategy}|{experience.model}], kept {kept}, {experience.metric}"
            )


def main() -> None:
    logger.remove()
    with provider(Large) as large, provider(Small) as small:
        asyncio.run(ask_both(large, small))


if __name__ == "__main__":
    main()
