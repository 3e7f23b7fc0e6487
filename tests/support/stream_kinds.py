"""The same test for generators and async generators."""

import asyncio


class Kind:
    """The same test for both kinds of generators: `stream(manager, chunks, ...)` decorates, `read` reads it to a list."""

    def __init__(self, of_async):
        self.of_async = of_async
        self.runs, self.cleaned = [], []

    def decorate(self, manager, chunks, after=lambda: None, **options):
        kind = self

        if self.of_async:

            async def function(q):
                kind.runs.append(q)
                try:
                    for chunk in chunks:
                        await asyncio.sleep(0)
                        yield chunk
                    after()
                finally:
                    kind.cleaned.append(q)
        else:

            def plain(q):
                kind.runs.append(q)
                try:
                    yield from chunks
                    after()
                finally:
                    kind.cleaned.append(q)

            function = plain

        options["exclude"] = [*options.get("exclude", ()), "chunks"]  # they may be what no key can be made of
        return manager.exp_cache(**options)(function)

    def read(self, stream, limit=None):
        async def aread():
            found = []
            if limit == 0:
                return found
            async for chunk in stream:
                found.append(chunk)
                if len(found) == limit:
                    await stream.aclose()
                    break
            return found

        if self.of_async:
            return asyncio.run(aread())
        found = []
        for chunk in stream:
            found.append(chunk)
            if len(found) == limit:
                stream.close()
                break
        return found
