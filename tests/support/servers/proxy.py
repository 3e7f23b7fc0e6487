"""A TCP proxy on loopback that breaks connections on demand."""

import asyncio
import threading
from urllib.parse import urlsplit

from support.servers import free_port, with_port

_DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "redis": 6379}


class Proxy:
    """In front of the server of ``url``; clients use ``proxy.url``. ``with`` starts and ends it.

    One thread with an event loop of its own. Every method returns once what it says is so.

    Attributes:
        url: the server's URL, by way of the proxy.
        port: where it listens.
        delay: seconds that each piece waits before it is passed on, in both directions; may be set at any time.
        cuts: connections cut by ``cut_after`` so far.
        connections: those that are open.
    """

    def __init__(self, url):
        parts = urlsplit(url)
        self._server = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
        self.port = free_port()
        self.url = with_port(url, self.port)
        self.delay = 0.0
        self.cuts = 0
        self._allowance = None  # bytes that servers may still say before a cut
        self._again = None  # what the allowance becomes after a cut
        self._serving = set()
        self._listener = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="proxy")

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        self.accept()
        return self

    def __exit__(self, *_):
        try:
            self.refuse()
            self.cut()
        finally:
            self._loop.call_soon_threadsafe(self._done.set)
            self._thread.join()

    @property
    def connections(self):
        return len(self._serving)

    def cut(self):
        """Closes all present connections at once; what was on its way is lost."""
        self._do(self._cut())

    def cut_after(self, n_bytes, *, again=False):
        """Lets ``n_bytes`` more of what servers say through, over all connections, then cuts the one that was
        speaking: its client has the first part of a reply, then the end. ``again``: and so on, every ``n_bytes``.
        """
        self._do(self._allow(n_bytes, n_bytes if again else None))

    def never_cut(self):
        """Takes ``cut_after`` back."""
        self._do(self._allow(None, None))

    def refuse(self):
        """New connections are refused, as if nobody listened; present ones stay."""
        self._do(self._refuse())

    def accept(self):
        """New connections are accepted again."""
        self._do(self._accept())

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _main(self):
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._done.wait()

    async def _cut(self):
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _allow(self, n_bytes, again):
        self._allowance, self._again = n_bytes, again

    async def _refuse(self):
        if self._listener:
            self._listener.close()
            self._listener = None

    async def _accept(self):
        if not self._listener:
            self._listener = await asyncio.start_server(self._begin, "127.0.0.1", self.port)

    def _begin(self, from_client, to_client):
        task = asyncio.ensure_future(self._serve(from_client, to_client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, from_client, to_client):
        open_ends = [to_client]
        try:
            from_server, to_server = await asyncio.open_connection(*self._server)
            open_ends.append(to_server)
            ways = self._pass_on(from_client, to_server), self._pass_on(from_server, to_client, is_reply=True)
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for end in open_ends:
                end.close()  # after what it was given: the first part of a reply arrives
                await end.wait_closed()
        except OSError:
            pass
        finally:
            for end in open_ends:
                end.transport.abort()

    async def _pass_on(self, source, target, *, is_reply=False):
        while data := await source.read(1 << 16):
            await asyncio.sleep(self.delay)
            if is_reply and self._allowance is not None:
                first, is_cut = data[: self._allowance], len(data) >= self._allowance
                self._allowance -= len(first)
            else:
                first, is_cut = data, False
            target.write(first)
            await target.drain()
            if is_cut:
                self.cuts += 1
                self._allowance = self._again
                return
