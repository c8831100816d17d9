"""The line between allocators and a gateway: a relaying unix socket that can be cut, swallow, delay and break off.

Its address stands in `gateway_endpoints` in the place of the gateway's own. Lives in a thread with a loop of its own.
"""

import asyncio
import contextlib
import random
import threading
from pathlib import Path

CHUNK_BYTES = 64 * 1024
LOOK_AGAIN_S = 0.02


class Relay:
    """One gateway's line."""

    def __init__(self, path: Path, upstream: Path, seed: int) -> None:
        self.path, self._upstream = path, upstream
        self._random = random.Random(seed)
        self._faults: list[tuple[str, float]] = []  # kind and amount of those that last now; several may
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"relay {path.name}", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    @property
    def address(self) -> str:
        """The gRPC target."""
        return f"unix:{self.path}"

    def impose(self, kind: str, amount: float) -> None:
        """From now on: `cut` (connections end, no new one is served), `hole` (nothing passes), `slow` (s), `lossy` (share)."""
        self._faults.append((kind, amount))
        if kind == "cut":
            self._loop.call_soon_threadsafe(self._drop_all)

    def lift(self, kind: str, amount: float) -> None:
        """One of them ends; what a hole has kept back arrives late."""
        self._faults.remove((kind, amount))

    def _worst(self, kind: str) -> float:
        return max((amount for each, amount in self._faults if each == kind), default=0.0)

    def _has(self, kind: str) -> bool:
        return any(each == kind for each, _ in self._faults)

    def close(self) -> None:
        """End it."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        self.path.unlink(missing_ok=True)

    async def _listen(self) -> asyncio.Server:
        self.path.unlink(missing_ok=True)
        return await asyncio.start_unix_server(self._serve, str(self.path))

    async def _end(self) -> None:
        self._server.close()
        self._drop_all()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _drop_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._has("cut"):
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._upstream))
        except OSError:  # the gateway is not there: neither is the line
            writer.transport.abort()
            return
        both = {writer, up_writer}
        self._writers |= both
        pumps = [asyncio.ensure_future(self._pump(a, b)) for a, b in ((reader, up_writer), (up_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.transport.abort()
            for pump in pumps:
                pump.cancel()
            self._writers -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self._has("slow"):
                    await asyncio.sleep(self._worst("slow") * (0.5 + self._random.random()))
                if self._random.random() < self._worst("lossy"):
                    return
                while self._has("hole"):
                    await asyncio.sleep(LOOK_AGAIN_S)
                writer.write(chunk)
                await writer.drain()
