"""The connection to a facility's devices: kept up, watched, and commands handed over. What they mean is in `facility.py`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.site import DeviceSite, Reading, Sent
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError, HcpError
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.drivers import MakeDevices
from hcp_pipelines.edge.tasks import Tasks
from hcp_pipelines.wire.slots import Slots

RECONNECT_FIRST_S = 0.2
RECONNECT_LAST_S = 5.0
STEADY_AFTER_S = 10.0  # a connection that held for so long starts the backoff anew
SILENT_AFTER_S = 5.0
SILENT_AFTER_SAMPLES = 10


@dataclass(frozen=True)
class Callbacks:
    """What the driver calls."""

    prepare: Callable[[DeviceSite], Awaitable[None]]  # connected, before commands are handed over
    ready: Callable[[], None]  # commands can be handed over from now on
    power: Callable[[Reading], None]
    told: Callable[
        [str, int, Slots | None], None
    ]  # an assignment's devices but for these were told; None: nobody knows which


class SiteDriver:
    """One facility's devices; `run` until cancelled."""

    def __init__(
        self,
        config: FacilityConfig,
        slots: int,
        folder: Path,
        period_ms: int,
        clock: SystemClock,
        tasks: Tasks,
        make: MakeDevices,
    ) -> None:
        self.site: DeviceSite = make(config, folder, clock, period_ms, self._take)
        self._slots, self._period_ms, self._clock, self._tasks = slots, period_ms, clock, tasks
        self._callbacks: Callbacks | None = None
        self._heard_at_s = 0.0
        self._handed_over = 0  # assignments whose devices are being told
        self.is_ready = False
        self.problem = "no connection to the site yet"
        self._log = structlog.get_logger("edge").bind(facility_id=config.facility_id)

    @property
    def is_telling(self) -> bool:
        """Whether devices are being told a state."""
        return self._handed_over > 0

    async def run(self, callbacks: Callbacks) -> None:
        """Connect, watch, and again."""
        self._callbacks, backoff_s = callbacks, RECONNECT_FIRST_S
        while True:
            began_s = self._clock.monotonic_s()
            try:
                await self._connect(callbacks)
                self.problem = await self._lost()
            except HcpError as error:
                self.problem = str(error)
            except Exception as defect:  # noqa: BLE001 - one facility's defect must not stop the others of this process
                self.problem = f"defect: {defect!r}"
                self._log.error("the driver has a defect", exc_info=defect)
            finally:
                self.is_ready = False
                await self.site.close()
            self._log.warning("no connection to the site", error=self.problem)
            if self._clock.monotonic_s() - began_s > STEADY_AFTER_S:
                backoff_s = RECONNECT_FIRST_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, RECONNECT_LAST_S)

    def hand_over(
        self, command_id: str, index: int, state: int, slots: bytes, work: WorkloadSpec | None = None
    ) -> Callable[[], object] | None:
        """Hand an absolute state to the devices. What comes back begins the wait for their answer, which `told` then says.

        None where they can't be told now: that is driven again by `ready`.
        """
        if not self.is_ready or not slots:
            return None
        try:
            sent = self.site.send_state(UUID(command_id), index, state, slots, work)
        except DeviceUnreachableError:
            return None
        self._handed_over += 1
        return lambda: self._tasks.spawn(self._finish(command_id, index, sent))

    async def _connect(self, callbacks: Callbacks) -> None:
        await self.site.connect(self._period_ms)
        if self.site.devices < self._slots:
            raise DeviceReplyError(f"the site has {self.site.devices} slots, the inventory {self._slots}")
        await callbacks.prepare(self.site)
        self._heard_at_s = self._clock.monotonic_s()
        self.is_ready, self.problem = True, ""
        callbacks.ready()

    async def _lost(self) -> str:
        """Return when the connection has ended, or when no power came for long: a site that hangs takes no commands."""
        limit_s = max(SILENT_AFTER_S, SILENT_AFTER_SAMPLES * self._period_ms / 1000)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.site.closed()
                    return "the site closed the connection"
            silent_s = self._clock.monotonic_s() - self._heard_at_s
            if silent_s > limit_s:
                return f"the site has told no power for {silent_s:.0f} s"

    def _take(self, reading: Reading) -> None:
        self._heard_at_s = self._clock.monotonic_s()
        if self.is_ready and self._callbacks is not None:
            self._callbacks.power(reading)

    async def _finish(self, command_id: str, index: int, sent: Sent) -> None:
        refused: Slots | None = None
        try:
            _, refused = await self.site.finish_state(sent)
        except (DeviceUnreachableError, DeviceReplyError) as error:
            self._log.warning("the site did not confirm a SET", command_id=command_id, error=str(error))
        finally:
            self._handed_over -= 1
            if self._callbacks is not None:
                self._callbacks.told(command_id, index, refused)
        if refused is not None and len(refused):
            self._log.warning("the site refused devices", command_id=command_id, assignment=index, devices=len(refused))
