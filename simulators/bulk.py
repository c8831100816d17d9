"""The bulk device channel's server (docs/bulk-channel.md): frames on a unix socket, one connection per site and gateway.

A connection that misbehaves is answered with ERROR and closed; the others don't notice. Physics is in `site`,
durability in `durability`. Frames pass through the scenario's network (`network`): request and reply are delayed, and what
is sent while the site is cut off is lost, with the connection.
"""

import asyncio
import contextlib
import logging
import struct
import zlib
from pathlib import Path

from pyroaring import BitMap

from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet, Site
from simulators.letting_go import LettingGo
from simulators.network import Link
from simulators.roaring import RoaringError, parse

VERSION = 1
MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_CONNECTIONS = 512
HELLO_DEADLINE_S = 10.0
FRAME_DEADLINE_S = 30.0
MIN_PERIOD_MS = 100

LOOK_S, TOLD_WITHIN_S = 0.2, 5.0  # real: at those that let go, and until who is to be told something has been
MAX_LETTING_GO = 4096  # at a time, of a connection

HELLO, SET, READ, METER, SUBSCRIBE, LET_GO = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
WELCOME, SET_DONE, READING, METERED, LET_GO_DONE, ERROR = 0x81, 0x82, 0x83, 0x84, 0x86, 0xFF
BAD_FRAME, UNKNOWN_SITE, HELLO_FIRST, WRONG_VERSION = 1, 2, 3, 4
POWER, COMMANDED, REACHABLE, HASHRATE, TEMPERATURE = range(5)

_HEAD = struct.Struct("<BI")
_SET_HEAD = struct.Struct("<16sHB")

log = logging.getLogger("world.bulk")


class ChannelError(Exception):
    """The peer broke the protocol: answered with ERROR, then closed."""

    def __init__(self, code: int, text: str, request: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.request = request


class BulkServer:
    """Serves every site of the fleet."""

    def __init__(self, path: Path, fleet: Fleet, transitions: TransitionLog, clock: Clock) -> None:
        self._path = path
        self._fleet = fleet
        self._transitions = transitions
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a socket file left behind by a dead world is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._server = await asyncio.start_unix_server(self._accept, str(self._path), limit=256 * 1024)
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        connection = _Connection(reader, writer, self._fleet, self._transitions, self._clock)
        with contextlib.suppress(asyncio.CancelledError):
            await connection.serve()


class _Connection:
    """One gateway speaking for one site."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fleet: Fleet,
        transitions: TransitionLog,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._fleet = fleet
        self._transitions = transitions
        self._clock = clock
        self._site: Site | None = None
        self._link: Link | None = None
        self._phase = 0.0  # of a period, when it pushes
        self._push: asyncio.Task[None] | None = None
        self._letting_go: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer frames until the peer leaves or breaks the protocol."""
        try:
            while True:
                deadline_s = None if self._site else HELLO_DEADLINE_S
                kind, request, payload = await self._read_frame(deadline_s)
                await self._carried(2)
                await self._handle(kind, request, payload)
        except ChannelError as error:
            log.warning("bulk channel: closed a connection: %s", error)
            await self._say_error(error)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            for task in (*self._letting_go, *([self._push] if self._push is not None else [])):
                task.cancel()
            self._writer.close()

    async def _carried(self, messages: int) -> None:
        """Wait as long as the network takes; a connection that a partition has cut is over."""
        if self._link is not None and not await self._link.carry(self._clock, messages):
            raise ConnectionResetError

    async def _say_error(self, error: ChannelError) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._send(ERROR, error.request, struct.pack("<H", error.code) + str(error).encode())

    async def _read_frame(self, deadline_s: float | None) -> tuple[int, int, bytes]:
        async with asyncio.timeout(deadline_s):
            first = await self._reader.readexactly(1)
        async with asyncio.timeout(FRAME_DEADLINE_S):
            length = int.from_bytes(first + await self._reader.readexactly(3), "little")
            if length > MAX_FRAME_BYTES:
                raise ChannelError(BAD_FRAME, f"a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
            if length < _HEAD.size:
                raise ChannelError(BAD_FRAME, f"a frame of {length} bytes; its head alone has {_HEAD.size}")
            frame = await self._reader.readexactly(length)
        kind, request = _HEAD.unpack_from(frame)
        return kind, request, frame[_HEAD.size :]

    async def _send(self, kind: int, request: int, *parts: bytes) -> None:
        length = _HEAD.size + sum(len(part) for part in parts)
        self._writer.writelines([struct.pack("<IBI", length, kind, request), *parts])
        async with asyncio.timeout(FRAME_DEADLINE_S):
            await self._writer.drain()

    async def _handle(self, kind: int, request: int, payload: bytes) -> None:
        if kind not in (HELLO, SET, READ, METER, SUBSCRIBE, LET_GO):
            raise ChannelError(BAD_FRAME, f"unknown frame type 0x{kind:02x}", request)
        if kind == HELLO:
            await self._hello(request, payload)
            return
        site = self._site
        if site is None:
            raise ChannelError(HELLO_FIRST, f"frame type 0x{kind:02x} before HELLO", request)
        if kind == SET:
            await self._set(site, request, payload)
        elif kind == READ:
            _exactly(payload, 1, "READ", request)
            await self._send(READING, request, *self._reading(site, payload[0], request))
        elif kind == METER:
            _exactly(payload, 0, "METER", request)
            now_s = self._clock.now_s()
            power_w = site.site_power_w(now_s)
            await self._send(METERED, request, struct.pack("<ddd", max(now_s, site.at_s), power_w, site.energy_wh))
        elif kind == LET_GO:
            self._let_go(site, request, payload)
        else:
            self._subscribe(site, request, payload)

    async def _hello(self, request: int, payload: bytes) -> None:
        if len(payload) < 4:
            raise ChannelError(BAD_FRAME, f"HELLO of {len(payload)} bytes is short", request)
        version, site_length = struct.unpack_from("<HH", payload)
        if version != VERSION:
            raise ChannelError(WRONG_VERSION, f"version {version}; this world speaks {VERSION}", request)
        _exactly(payload, 4 + site_length, "HELLO", request)
        name = payload[4:].decode(errors="replace")
        site = self._fleet.sites.get(name)
        if site is None:
            raise ChannelError(UNKNOWN_SITE, f"no site {name[:100]!r} in this world", request)
        if self._site is not None:
            raise ChannelError(BAD_FRAME, "a second HELLO; open another connection for another site", request)
        self._site, self._link = site, self._fleet.network.link(name)
        self._phase = zlib.crc32(name.encode()) / 2**32
        await self._carried(2)
        await self._send(WELCOME, request, struct.pack("<HId", VERSION, site.devices, self._clock.speed))

    async def _set(self, site: Site, request: int, payload: bytes) -> None:
        if len(payload) < _SET_HEAD.size:
            raise ChannelError(BAD_FRAME, f"SET of {len(payload)} bytes is short", request)
        ref, assignment, state = _SET_HEAD.unpack_from(payload)
        wanted = _slots(payload[_SET_HEAD.size :], "SET", request)
        result = self._transitions.set_state(site, ref, assignment, state, wanted)
        await self._send(SET_DONE, request, *_counted(result.accepted), *_counted(result.refused))

    def _let_go(self, site: Site, request: int, payload: bytes) -> None:
        """Answer once these devices have let go of what they run; they are told by the frame behind this one."""
        if len(self._letting_go) >= MAX_LETTING_GO:
            raise ChannelError(BAD_FRAME, f"more than {MAX_LETTING_GO} LET_GO at a time", request)
        letting = LettingGo(site, _slots(payload, "LET_GO", request), self._clock.now_s())
        task = asyncio.create_task(self._tell_let_go(letting, request))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)

    async def _tell_let_go(self, letting: LettingGo, request: int) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + TOLD_WITHIN_S
        while True:
            await asyncio.sleep(LOOK_S)
            if letting.is_over(self._clock.now_s(), is_told=loop.time() > until_s):
                break
        if self._link is not None and not await self._link.carry(self._clock):
            self._writer.transport.abort()
            return
        kept, lost = letting.kept()
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._send(LET_GO_DONE, request, *_counted(kept), *_counted(lost))

    def _reading(self, site: Site, what: int, request: int) -> tuple[bytes, bytes]:
        now_s = self._clock.now_s()
        if what == POWER:
            values = site.power_w(now_s).astype("<f4").tobytes()
        elif what == COMMANDED:
            values = site.commanded.tobytes()
        elif what == REACHABLE:
            values = site.reachable.tobytes()
        elif what == HASHRATE:
            values = site.told_hashrate_th_per_s(now_s).astype("<f4").tobytes()
        elif what == TEMPERATURE:
            values = site.told_temperature_c(now_s).astype("<f4").tobytes()
        else:
            raise ChannelError(BAD_FRAME, f"READ of {what}; there are 0 to 4 (docs/bulk-channel.md)", request)
        return struct.pack("<Bd", what, max(now_s, site.at_s)), values

    def _subscribe(self, site: Site, request: int, payload: bytes) -> None:
        _exactly(payload, 4, "SUBSCRIBE", request)
        period_ms = int.from_bytes(payload, "little")
        if period_ms < MIN_PERIOD_MS:
            raise ChannelError(BAD_FRAME, f"SUBSCRIBE at {period_ms} ms; the shortest is {MIN_PERIOD_MS}", request)
        if self._push is not None:
            self._push.cancel()
        self._push = asyncio.create_task(self._push_readings(site, period_ms / 1000.0))

    async def _push_readings(self, site: Site, period_s: float) -> None:
        """Push the newest power; while the peer has not taken the last one, nothing is queued.

        Sites know nothing of each other: after the first push each keeps to a time of its own in the period.
        """
        loop = asyncio.get_running_loop()
        phase_s = self._phase * period_s
        while not self._writer.is_closing():
            if self._link is not None and not await self._link.carry(self._clock):
                self._writer.transport.abort()
                return
            if self._writer.transport.get_write_buffer_size() == 0:
                head, values = self._reading(site, POWER, 0)
                frame_head = struct.pack("<IBI", _HEAD.size + len(head) + len(values), READING, 0)
                self._writer.writelines([frame_head, head, values])
            await asyncio.sleep(period_s - (loop.time() - phase_s) % period_s)


def _exactly(payload: bytes, length: int, name: str, request: int) -> None:
    if len(payload) != length:
        raise ChannelError(BAD_FRAME, f"{name} of {len(payload)} bytes; it has {length}", request)


def _slots(payload: bytes, name: str, request: int) -> BitMap:
    try:
        return parse(payload)
    except RoaringError as error:
        raise ChannelError(BAD_FRAME, f"{name}: slots are {error}", request) from error


def _counted(bitmap: BitMap) -> tuple[bytes, bytes]:
    body = bitmap.serialize()
    return struct.pack("<I", len(body)), body
