"""First pass: who answers at all. One TCP connection and one `version` an address, thousands a second, on bare sockets.

An address that refuses port 4028 is asked on 4433, where the newest WhatsMiners answer alone. One that doesn't answer in time is
given up: on a real network that is what an unused address does. What fails on this side (no socket, no route) says nothing about
the other one, and is told apart.
"""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import structlog

from hcp_pipelines.devices.discovery.found import Gate, at_once
from hcp_pipelines.devices.miner.identify import V3_DEVICE_INFO, VERSION
from hcp_pipelines.devices.miner.telemetry import MinerOptions
from hcp_pipelines.devices.miner.transport import REPLY_MAX_BYTES, Framing, exchange
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError

AT_ONCE = 512
SPARE_FILES = 64  # of the process's limit, for everything else
_CHUNK = 16_384
_OURS = frozenset(
    getattr(errno, name)
    for name in ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL", "ENETUNREACH", "ENETDOWN")
)


class Outcome(StrEnum):
    """What came of an address."""

    REPLY = "reply"  # something was said on 4028
    V3 = "v3"  # 4028 is shut, 4433 answers
    HUNG = "hung"  # 4028 takes connections and says nothing
    REFUSED = "refused"
    SILENT = "silent"
    MISSED = "missed"  # it could not be looked at from here


@dataclass(frozen=True, slots=True)
class Probe:
    """One address."""

    address: str
    outcome: Outcome
    reply: bytes = b""
    why: str = ""  # it could not be looked at


async def probe_all(
    addresses: Iterable[str], options: MinerOptions, probes: int = AT_ONCE, gate: Gate = at_once
) -> AsyncIterator[Probe]:
    """Every address with what came of it, as they come; so many probes at once."""
    waiting: Iterator[str] = iter(addresses)
    found: asyncio.Queue[Probe | None] = asyncio.Queue(probes * 4)

    async def work() -> None:
        for address in waiting:
            await gate()
            await found.put(await _probe(address, options))

    async def run() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(probes, files())):
                    group.create_task(work())
        finally:
            await found.put(None)

    running = asyncio.create_task(run())
    try:
        while (probe := await found.get()) is not None:
            yield probe
        await running
    finally:
        running.cancel()


async def _probe(address: str, options: MinerOptions) -> Probe:
    is_open = asyncio.Event()
    try:
        async with asyncio.timeout(options.deadline_s):
            reply = await _say(address, options.api_port, VERSION, is_open)
    except TimeoutError:
        return Probe(address, Outcome.HUNG if is_open.is_set() else Outcome.SILENT)
    except OSError as error:
        if not is_ours(error):
            return await _probe_v3(address, options)
        return Probe(address, Outcome.MISSED, why=why_of(error))
    except Exception as defect:  # noqa: BLE001 - at one address: the others are probed all the same
        structlog.get_logger("discovery").error("a defect at one address", address=address, exc_info=defect)
        return Probe(address, Outcome.MISSED, why=f"defect: {type(defect).__name__}")
    return Probe(address, Outcome.REPLY, reply) if reply else await _probe_v3(address, options)


async def _probe_v3(address: str, options: MinerOptions) -> Probe:
    try:
        reply = await exchange(address, options.v3_port, V3_DEVICE_INFO, options.deadline_s, Framing.LENGTH)
    except (DeviceUnreachableError, DeviceReplyError):
        return Probe(address, Outcome.REFUSED)
    return Probe(address, Outcome.V3, reply)


async def _say(address: str, port: int, request: bytes, is_open: asyncio.Event) -> bytes:
    """What is said in reply to a request, up to a zero byte or the end."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        await loop.sock_connect(connection, (address, port))
        is_open.set()
        await loop.sock_sendall(connection, request)
        reply = bytearray()
        while chunk := await loop.sock_recv(connection, _CHUNK):
            reply += chunk
            if chunk.endswith(b"\0") or len(reply) > REPLY_MAX_BYTES:
                break
        return bytes(reply.rstrip(b"\0"))


def is_ours(error: OSError) -> bool:
    """Whether it failed on this side: nothing is known of the other one."""
    return error.errno in _OURS


def why_of(error: OSError) -> str:
    """The same for people: `Network is unreachable`."""
    return os.strerror(error.errno) if error.errno else repr(error)


def files() -> int:
    """Sockets that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - SPARE_FILES, 1) if soft != resource.RLIM_INFINITY else AT_ONCE
