"""Desired rows as they change: read when Postgres says so, and every half a minute in any case; the owners plan upon them.

Readings are apart by a moment and on a connection of their own: a scheduler that writes without pause delays no price.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

import structlog

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.control import FacilityControl
from hcp_pipelines.allocator.store import STORE_ERRORS, Store
from hcp_pipelines.domain.clock import Clock

READ_EACH_S = 30.0  # real: leases that were renewed wake nobody
LEAST_APART_S = 0.1
AGAIN_S = 1.0


class DesiredDesk:
    """The rows of the facilities of one allocator."""

    def __init__(self, store: Store, controls: Mapping[str, FacilityControl], clock: Clock) -> None:
        self._store, self._controls, self._clock = store, controls, clock
        self._changed = set[str]()
        self._has_changed = asyncio.Event()
        self._all_at_s = clock.monotonic_s() + READ_EACH_S
        self._log = structlog.get_logger("allocator")

    def hear(self, facility_ids: Iterable[str]) -> None:
        """Rows of these facilities have changed."""
        self._changed.update(facility_ids)
        if self._changed:
            self._has_changed.set()

    async def run(self) -> None:
        """Read on and on, until cancelled."""
        while True:
            wanted, wait_s = await self._next(), LEAST_APART_S
            try:
                await self._read(sorted(wanted & self._controls.keys()))
            except STORE_ERRORS as error:
                metrics.POSTGRES_ERRORS.labels("desired").inc()
                self._log.warning("desired rows can't be read", error=str(error).strip())
                self.hear(wanted)
                wait_s = AGAIN_S
            await asyncio.sleep(wait_s)

    async def _next(self) -> set[str]:
        """Whose rows are to be read: those heard of, and in time all that can be of interest.

        Where no group is scheduled rows are refused as they come.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(self._all_at_s - self._clock.monotonic_s(), 0.0)):
                await self._has_changed.wait()
        self._has_changed.clear()
        wanted, self._changed = self._changed, set()
        if (now_s := self._clock.monotonic_s()) >= self._all_at_s:
            self._all_at_s = (
                now_s + READ_EACH_S
            )  # whatever was heard of meanwhile: others' notifications are none for ours
            wanted |= {facility_id for facility_id, control in self._controls.items() if control.site.scheduled}
        return wanted

    async def _read(self, facility_ids: list[str]) -> None:
        if not facility_ids:
            return
        found = await self._store.read_desired(facility_ids)
        for facility_id in facility_ids:
            if (control := self._controls.get(facility_id)) is not None:
                control.desire(found[facility_id])
                await asyncio.sleep(0)  # a tick goes first
