"""A scan for GPU nodes: who says anything at all on the agent's or the exporter's port, and which node it is, board by board.

Reads only, and without the token: `GET /v1/node` and `GET /v1/gpus`. A node whose agent does not answer and whose exporter does
is there, and hangs.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto

import httpx
import structlog

from hcp_pipelines.devices.discovery.found import GPU_NODE, Found, Gate, OnProgress, Scan, at_once
from hcp_pipelines.devices.discovery.probe import AT_ONCE, files, is_ours, why_of
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions
from hcp_pipelines.devices.gpu_node.limits import table_model
from hcp_pipelines.devices.gpu_node.transport import NodeTransport, new_client
from hcp_pipelines.devices.work import spread
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

_AGENT, _EXPORTER = "/v1/node", "/"


class _Door(Enum):
    ANSWERS = auto()
    HANGS = auto()  # it takes a connection and says nothing
    SHUT = auto()  # nobody there, or one that hangs up at once
    UNKNOWN = auto()  # it failed on this side


async def scan_nodes(
    addresses: Sequence[str],
    options: GpuNodeOptions,
    clock: Clock,
    on_progress: OnProgress,
    probes: int = AT_ONCE,
    gate: Gate = at_once,
) -> Scan:
    """Look at every address, so many `probes` at once; nodes come in the order of the addresses."""
    result = Scan(addresses)
    began_s = clock.monotonic_s()
    answered = await _first_pass(result, options, on_progress, probes, gate)
    result.probe_s = clock.monotonic_s() - began_s
    began_s = clock.monotonic_s()
    await _second_pass(result, answered, options, on_progress, gate)
    result.identify_s = clock.monotonic_s() - began_s
    order = {address: n for n, address in enumerate(addresses)}
    result.found.sort(key=lambda one: order[one.address])
    return result


async def _first_pass(
    result: Scan, options: GpuNodeOptions, on_progress: OnProgress, probes: int, gate: Gate
) -> list[str]:
    done, answered = 0, list[str]()

    async def probe(address: str) -> None:
        nonlocal done
        await gate()
        door, why = await _knock(address, options.agent_port, _AGENT, options.deadline_s)
        if door is _Door.SHUT:
            exporter, why = await _knock(address, options.exporter_port, _EXPORTER, options.deadline_s)
            door = _Door.HANGS if exporter in {_Door.ANSWERS, _Door.HANGS} else exporter
        match door:
            case _Door.ANSWERS:
                answered.append(address)
            case _Door.HANGS:
                result.hung.append(address)
            case _Door.UNKNOWN:
                result.missed[address] = why
        done += 1
        on_progress("probe nodes", done, len(result.addresses))

    await spread(result.addresses, min(probes, files()), probe)
    return answered


async def _second_pass(
    result: Scan, answered: Sequence[str], options: GpuNodeOptions, on_progress: OnProgress, gate: Gate
) -> None:
    client, done = new_client(options.concurrency), 0

    async def look(address: str) -> None:
        nonlocal done
        await gate()
        found = await _look(address, options, client)
        if found is None:
            result.hung.append(address)
        else:
            result.found.append(found)
        done += 1
        on_progress("identify nodes", done, len(answered))

    try:
        await spread(answered, options.concurrency, look)
    finally:
        await client.aclose()


async def _look(address: str, options: GpuNodeOptions, client: httpx.AsyncClient) -> Found | None:
    """Which node it is; None where it took a connection and gave no answer."""
    node = GpuNode(
        NodeTransport(
            address,
            exporter_port=options.exporter_port,
            agent_port=options.agent_port,
            within_s=options.deadline_s,
            client=client,
        ),
        address,
    )
    try:
        identity = await node.identify()
    except DeviceUnreachableError:
        return None
    except (DeviceRefusedError, DeviceReplyError) as error:
        return Found(address, GPU_NODE, problem=str(error))
    except Exception as defect:  # noqa: BLE001 - at one node: the others are looked at all the same
        structlog.get_logger("discovery").error("a defect at one node", address=address, exc_info=defect)
        return Found(address, GPU_NODE, problem=f"{address}: defect: {defect!r}")
    board = replace(identity.specification, model=table_model(identity.specification.model))
    return Found(
        address,
        GPU_NODE,
        model=board.model,
        firmware=identity.driver_version,
        serial=identity.hostname,
        boards=identity.gpu_uuids,
        specification=board,
    )


async def _knock(address: str, port: int, path: str, within_s: float) -> tuple[_Door, str]:
    """What comes of a request on a port, and why nothing did on this side: one byte of a reply is enough."""
    loop, is_open = asyncio.get_running_loop(), False
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            async with asyncio.timeout(within_s):
                await loop.sock_connect(connection, (address, port))
                is_open = True
                await loop.sock_sendall(connection, request)
                return (_Door.ANSWERS if await loop.sock_recv(connection, 1) else _Door.SHUT), ""
    except TimeoutError:
        return (_Door.HANGS if is_open else _Door.SHUT), ""
    except OSError as error:
        return (_Door.UNKNOWN, why_of(error)) if is_ours(error) else (_Door.SHUT, "")
