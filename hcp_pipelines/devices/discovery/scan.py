"""A scan for miners: the raw probe over all addresses, and a closer look at each that answered: who it is.

It only reads, and opens no session: a LuxOS session of somebody else's goes on. A stock Antminer tells its MAC behind a password
alone, which is shown only at addresses that the caller expects: anybody can say that it is such a miner. What is done with what
was found (a new inventory generation) is `fleet.reconcile`'s.
"""

from collections.abc import Awaitable, Container, Sequence

import httpx
import structlog

from hcp_pipelines.devices.discovery.found import Found, Gate, OnProgress, Scan, at_once
from hcp_pipelines.devices.discovery.probe import AT_ONCE, Outcome, Probe, probe_all
from hcp_pipelines.devices.miner.identify import ask_everything, identify_by_device_info, identify_by_version
from hcp_pipelines.devices.miner.identity_codec import Identity, model_name
from hcp_pipelines.devices.miner.telemetry import Dialect, MinerOptions
from hcp_pipelines.devices.miner.web import new_client
from hcp_pipelines.devices.work import spread
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

PROGRESS_EACH = 64
_DEVICE_ERRORS = (DeviceUnreachableError, DeviceRefusedError, DeviceReplyError)


async def scan(
    addresses: Sequence[str],
    options: MinerOptions,
    clock: Clock,
    on_progress: OnProgress,
    probes: int = AT_ONCE,
    gate: Gate = at_once,
    log_on: Container[str] = frozenset(),
) -> Scan:
    """Look at every address, so many `probes` at once; devices come in the order of the addresses.

    `log_on`: addresses at which a stock Antminer is shown a digest of its password.
    """
    result = Scan(addresses)
    began_s = clock.monotonic_s()
    answered = await _first_pass(result, options, on_progress, probes, gate)
    result.probe_s = clock.monotonic_s() - began_s
    began_s = clock.monotonic_s()
    await _second_pass(result, answered, options, on_progress, gate, log_on)
    result.identify_s = clock.monotonic_s() - began_s
    order = {address: n for n, address in enumerate(addresses)}
    result.found.sort(key=lambda one: order[one.address])
    return result


async def _first_pass(
    result: Scan, options: MinerOptions, on_progress: OnProgress, probes: int, gate: Gate
) -> list[Probe]:
    done, answered = 0, list[Probe]()
    async for probe in probe_all(result.addresses, options, probes, gate):
        done += 1
        match probe.outcome:
            case Outcome.REPLY | Outcome.V3:
                answered.append(probe)
            case Outcome.HUNG:
                result.hung.append(probe.address)
            case Outcome.MISSED:
                result.missed[probe.address] = probe.why
        if done % PROGRESS_EACH == 0 or done == len(result.addresses):
            on_progress("probe", done, len(result.addresses))
    return answered


async def _second_pass(
    result: Scan,
    answered: Sequence[Probe],
    options: MinerOptions,
    on_progress: OnProgress,
    gate: Gate,
    log_on: Container[str],
) -> None:
    client = new_client(options.concurrency)

    async def look(probe: Probe) -> None:
        await gate()
        result.found.append(await _look(probe, options, client if probe.address in log_on else None))
        on_progress("identify", len(result.found), len(answered))

    try:
        await spread(answered, options.concurrency, look)
    finally:
        await client.aclose()


async def _look(probe: Probe, options: MinerOptions, client: httpx.AsyncClient | None) -> Found:
    identity, problem = await _told(probe.address, _dialect(probe, options), Identity(Dialect.OTHER))
    if not problem:
        everything = ask_everything(probe.address, identity, options, client)
        identity, problem = await _told(probe.address, everything, identity)
    if client is None and identity.dialect is Dialect.ANTMINER:
        problem = problem or f"{probe.address}: not logged on to, so without MAC: not at an expected address"
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


async def _told(address: str, work: Awaitable[Identity], otherwise: Identity) -> tuple[Identity, str]:
    try:
        return await work, ""
    except _DEVICE_ERRORS as error:
        return otherwise, str(error)
    except Exception as defect:  # noqa: BLE001 - of one dialect's codec: the other devices are looked at all the same
        structlog.get_logger("discovery").error("a defect at one device", address=address, exc_info=defect)
        return otherwise, f"{address}: defect: {defect!r}"
