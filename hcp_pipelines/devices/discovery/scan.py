"""A scan: the raw probe over all addresses, and a closer look at each that answered: dialect, model, firmware, MAC, serial.

What is done with what was found (a new inventory generation) is `fleet.reconcile`'s.
"""

import asyncio
from collections.abc import Awaitable, Sequence

import httpx

from hcp_pipelines.devices.discovery.found import Found, OnProgress, Scan
from hcp_pipelines.devices.discovery.probe import AT_ONCE, Outcome, Probe, probe_all
from hcp_pipelines.devices.miner.identify import ask_everything, identify_by_device_info, identify_by_version
from hcp_pipelines.devices.miner.identity_codec import Identity, model_name
from hcp_pipelines.devices.miner.telemetry import Dialect, MinerOptions
from hcp_pipelines.devices.miner.web import new_client
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

PROGRESS_EACH = 64
_DEVICE_ERRORS = (DeviceUnreachableError, DeviceRefusedError, DeviceReplyError)


async def scan(
    addresses: Sequence[str], options: MinerOptions, clock: Clock, on_progress: OnProgress, at_once: int = AT_ONCE
) -> Scan:
    """Look at every address; devices come in the order of the addresses."""
    result = Scan(addresses)
    answered = await _first_pass(result, addresses, options, clock, on_progress, at_once)
    began_s = clock.monotonic_s()
    client = new_client(options.concurrency)
    try:
        await _second_pass(result, answered, options, client, on_progress)
    finally:
        await client.aclose()
    result.identify_s = clock.monotonic_s() - began_s
    order = {address: n for n, address in enumerate(addresses)}
    result.found.sort(key=lambda one: order[one.address])
    return result


async def _first_pass(
    result: Scan, addresses: Sequence[str], options: MinerOptions, clock: Clock, on_progress: OnProgress, at_once: int
) -> list[Probe]:
    began_s, done, answered = clock.monotonic_s(), 0, list[Probe]()
    async for probe in probe_all(addresses, options, at_once):
        done += 1
        if probe.outcome in {Outcome.REPLY, Outcome.V3}:
            answered.append(probe)
        elif probe.outcome is Outcome.HUNG:
            result.hung.append(probe.address)
        if done % PROGRESS_EACH == 0 or done == len(addresses):
            on_progress("probe", done, len(addresses))
    result.probe_s = clock.monotonic_s() - began_s
    return answered


async def _second_pass(
    result: Scan, answered: Sequence[Probe], options: MinerOptions, client: httpx.AsyncClient, on_progress: OnProgress
) -> None:
    waiting = iter(answered)

    async def work() -> None:
        for probe in waiting:
            result.found.append(await _look(probe, options, client))
            on_progress("identify", len(result.found), len(answered))

    async with asyncio.TaskGroup() as group:
        for _ in range(options.concurrency):
            group.create_task(work())


async def _look(probe: Probe, options: MinerOptions, client: httpx.AsyncClient) -> Found:
    identity, problem = await _told(_dialect(probe, options), Identity(Dialect.OTHER))
    if not problem:
        identity, problem = await _told(ask_everything(probe.address, identity, options, client), identity)
    return Found(
        address=probe.address,
        dialect=identity.dialect,
        model=model_name(identity.model),
        firmware=identity.firmware,
        mac=identity.mac,
        serial=identity.serial,
        problem=problem,
    )


async def _dialect(probe: Probe, options: MinerOptions) -> Identity:
    if probe.outcome is Outcome.V3:
        return identify_by_device_info(probe.address, probe.reply)
    return await identify_by_version(probe.address, probe.reply, options)


async def _told(work: Awaitable[Identity], otherwise: Identity) -> tuple[Identity, str]:
    try:
        return await work, ""
    except _DEVICE_ERRORS as error:
        return otherwise, str(error)
