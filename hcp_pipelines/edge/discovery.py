"""A facility's addresses scanned again and again, behind everything else the gateway does, and the last scan for whoever asks.

Commands and polls go first: a scan has few connections open, begins so many a second, and a tenth of that while devices are told
a state. A scan never overlaps the next. What becomes of what it found is decided where the inventory is.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import assert_never

import structlog

from hcp_pipelines.devices.discovery.found import Found, Scan, merge
from hcp_pipelines.devices.discovery.ranges import compress
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.config import DiscoveryConfig, FacilityConfig
from hcp_pipelines.edge.driver_config import BulkDriver, DriverConfig, GpuNodeDriver, KubernetesDriver, MinerApiDriver
from hcp_pipelines.edge.drivers import miner_options
from hcp_pipelines.wire import edge_v1_pb2 as pb

PART_DEVICES = 5_000
SLOWER = 10.0  # while devices are told a state
LEAST_SLEEP_S = 0.005


class Discovery:
    """One facility's scans; `run` until told to stop."""

    def __init__(
        self, config: FacilityConfig, own: DiscoveryConfig, clock: SystemClock, is_telling: Callable[[], bool]
    ) -> None:
        self._config, self._own, self._clock = config, own, clock
        self._pace = Pace(own.connections_per_s, clock, is_telling)
        self._process_id, self._number = uuid.uuid4().hex, 0
        self._newest: list[pb.DiscoveryPart] = []
        self.problem = ""
        self._log = structlog.get_logger("edge.discovery").bind(facility_id=config.facility_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Scan on; what a scan does wrong never ends the loop."""
        scanning = asyncio.create_task(self._scan_on())
        await stop.wait()
        scanning.cancel()
        await asyncio.gather(scanning, return_exceptions=True)

    def parts_after(self, process_id: str, number: int) -> Iterator[pb.DiscoveryPart]:
        """The last scan in parts; nothing if it is the one that was named, or one before it."""
        if process_id == self._process_id and self._number <= number:
            return
        yield from self._newest

    async def _scan_on(self) -> None:
        fid, every_s = self._config.facility_id, self._own.every_s
        while True:
            began_s = self._clock.monotonic_s()
            await self._scan_once()
            took_s = self._clock.monotonic_s() - began_s
            if took_s > every_s:
                metrics.SCANS_LATE.labels(fid).inc()
            await asyncio.sleep(max(every_s - took_s, 0.0))

    async def _scan_once(self) -> None:
        began_s = self._clock.monotonic_s()
        try:
            scan = await self._scan()
            self._keep(scan)
        except Exception as defect:  # noqa: BLE001 - the next scan may go well
            self.problem = f"the last scan failed: {defect!r}"
            self._log.error("a scan failed", exc_info=defect)
            metrics.SCANS.labels(self._config.facility_id, "failed").inc()
            return
        self._tell_metrics(scan, self._clock.monotonic_s() - began_s)

    async def _scan(self) -> Scan:
        scans: list[Scan] = []
        for driver, addresses in sweeps(self._config, self._own):
            known = {one.address for scan in scans for one in scan.found}
            scans.append(await self._sweep(driver, [address for address in addresses if address not in known]))
        return merge(scans)

    async def _sweep(self, driver: DriverConfig, addresses: Sequence[str]) -> Scan:
        match driver:
            case MinerApiDriver():
                return await self._sweep_miners(driver, addresses)
            case GpuNodeDriver():
                return await self._sweep_nodes(driver, addresses)
            case BulkDriver() | KubernetesDriver():
                return Scan(addresses)
            case _:
                assert_never(driver)

    async def _sweep_miners(self, driver: MinerApiDriver, addresses: Sequence[str]) -> Scan:
        from hcp_pipelines.devices.discovery.scan import scan

        options = replace(miner_options(driver), concurrency=self._own.concurrency)
        log_on = set(addresses) if self._own.authenticate else expected(self._config)
        return await scan(addresses, options, self._clock, _unheard, self._own.probes, self._pace.wait, log_on)

    async def _sweep_nodes(self, driver: GpuNodeDriver, addresses: Sequence[str]) -> Scan:
        from hcp_pipelines.devices.discovery.nodes import scan_nodes
        from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions

        options = GpuNodeOptions(
            exporter_port=driver.exporter_port,
            agent_port=driver.agent_port,
            deadline_s=driver.deadline_ms / 1000,
            concurrency=self._own.concurrency,
        )
        return await scan_nodes(addresses, options, self._clock, _unheard, self._own.probes, self._pace.wait)

    def _keep(self, scan: Scan) -> None:
        self._number, self.problem = self._number + 1, ""
        self._newest = list(parts_of(scan, self._process_id, self._number, self._clock.real_now().isoformat()))

    def _tell_metrics(self, scan: Scan, took_s: float) -> None:
        fid = self._config.facility_id
        metrics.SCANS.labels(fid, "done").inc()
        metrics.SCAN_SECONDS.labels(fid).observe(took_s)
        metrics.SCAN_RATE.labels(fid).set(len(scan.addresses) / took_s if took_s else 0.0)
        for what, devices in (("found", scan.found), ("hung", scan.hung), ("missed", scan.missed)):
            metrics.SCAN_FOUND.labels(fid, what).set(len(devices))


class Pace:
    """So many connections a second, and fewer while something more important is under way."""

    def __init__(self, per_s: float, clock: SystemClock, is_telling: Callable[[], bool]) -> None:
        self._per_s, self._clock, self._is_telling = per_s, clock, is_telling
        self._next_s = float("-inf")

    async def wait(self) -> None:
        """Return when the next connection may begin."""
        now_s = self._clock.monotonic_s()
        per_s = self._per_s / SLOWER if self._is_telling() else self._per_s
        self._next_s = max(self._next_s, now_s) + 1.0 / per_s
        if self._next_s - now_s > LEAST_SLEEP_S:
            await asyncio.sleep(self._next_s - now_s)


def sweeps(config: FacilityConfig, own: DiscoveryConfig) -> list[tuple[DriverConfig, list[str]]]:
    """What to scan with each driver that has addresses: its groups', or every range that is named."""
    found: dict[str, tuple[DriverConfig, list[str]]] = {}
    for group in config.groups:
        driver = config.driver_of(group)
        if not isinstance(driver, BulkDriver | KubernetesDriver):
            addresses = found.setdefault(driver.model_dump_json(), (driver, list(own.addresses)))[1]
            addresses += () if own.ranges else group.address_of_each
    return list(found.values())


def expected(config: FacilityConfig) -> set[str]:
    """Addresses at which the inventory has a miner: who answers there may be shown a digest of a password."""
    drivers = [(config.driver_of(group), group) for group in config.groups]
    return {a for driver, group in drivers if isinstance(driver, MinerApiDriver) for a in group.address_of_each}


def parts_of(scan: Scan, process_id: str, number: int, finished_at: str) -> Iterator[pb.DiscoveryPart]:
    """A scan in messages of at most `PART_DEVICES` devices; one at least."""
    missed = set(scan.missed)
    head = pb.DiscoveryPart(
        scanned=compress([address for address in scan.addresses if address not in missed]), hung=compress(scan.hung)
    )
    left, count = iter(scan.found), 0
    while True:
        devices = [_message_of(one) for one in islice(left, PART_DEVICES)]
        count += len(devices)
        part = pb.DiscoveryPart(
            scan=number,
            process_id=process_id,
            finished_at=finished_at,
            found=devices,
            is_last=count == len(scan.found),
        )
        part.MergeFrom(head)
        yield part
        if part.is_last:
            return
        head = pb.DiscoveryPart()


def _message_of(found: Found) -> pb.FoundDevice:
    board = found.specification
    return pb.FoundDevice(
        address=found.address,
        dialect=found.dialect,
        model=found.model,
        firmware=found.firmware,
        mac=found.mac,
        serial=found.serial,
        problem=found.problem,
        boards=found.boards,
        memory_gb=board.memory_gb if board else 0.0,
        compute_capability=board.compute_capability if board else "",
        max_power_w=board.max_power_w if board else 0.0,
    )


def _unheard(_name: str, _done: int, _of: int) -> None:
    """Nobody looks at the progress of a scan in the background."""
