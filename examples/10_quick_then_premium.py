"""A quick answer now, the better one from then on: a web service.

Each question is put to two models at once. Who asks gets the quick answer; the better one takes its place in the pool
when it arrives. When the service is stopped, it waits for what is still on its way.

Run as it is, this asks itself and stops. To try it by hand: ``fastapi run examples/10_quick_then_premium.py``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from loguru import logger

from exp_pool import ExpManager, Refine, record

pool = ExpManager(store="memory://", index="none://", embedder="none", exit_timeout=10)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with pool:  # at its end, background tasks are waited for, at most `exit_timeout` seconds, then cancelled
        yield


app = FastAPI(lifespan=lifespan)


async def premium(conversation: str) -> dict[str, Any]:
    record(model="claude-3.5-sonnet", strategy="premium")
    await asyncio.sleep(0.3)  # your better, slower model
    return {"conversation": conversation, "participants": ["Zhang", "Xu"], "messages": 6}


@pool.exp_cache(
    name="merge_step",
    refine=Refine(premium, timeout=30),
    cache_if=lambda answer: bool(answer["participants"]),  # what is no answer is not stored, and no better one either
    describe=lambda answer: f"Conversation: {answer['messages']} messages",
)
async def merge_step(conversation: str) -> dict[str, Any]:
    record(model="gemini-2.0-flash", strategy="multimodal")
    await asyncio.sleep(0.01)  # your quick model
    return {"conversation": conversation, "participants": ["Zhang"], "messages": 6}


@app.get("/merge/{conversation}")
async def merge(conversation: str) -> dict[str, Any]:
    return await merge_step(conversation)


@app.get("/background")
async def background() -> dict[str, Any]:
    return {"count": pool.background.count, "names": pool.background.names}


async def main() -> None:
    logger.remove()
    logger.enable("exp_pool")
    logger.add(sys.stdout, level="DEBUG", format="  log: {message}")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        print("at once:", (await client.get("/merge/c1")).json())
        print("meanwhile:", (await client.get("/background")).json())
        await pool.flush()
        print("later:", (await client.get("/merge/c1")).json())
        print("another:", (await client.get("/merge/c2")).json())
    server.should_exit = True  # as SIGTERM does
    await serving
    print("stopped, with", pool.background.count, "tasks left")


if __name__ == "__main__":
    asyncio.run(main())
