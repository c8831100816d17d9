"""Load that a gateway without an owner keeps on: obligations that are armed or will be, as an owner last told them (DESIGN §6).

Only what it does for a price or the fallback plan is held above them; safety, locks and direct orders go lower.
"""

import math

import numpy as np
import structlog

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.policy.arrays import Ints
from hcp_pipelines.policy.floors import held_above
from hcp_pipelines.policy.waves import FacilityShape
from hcp_pipelines.wire import edge_v1_pb2 as pb

FLOORS_MAX = 1_000


class Floors:
    """One facility's floors."""

    def __init__(self, devices: Devices, log: FacilityLog, stored: pb.Floors | None) -> None:
        self._turn, self._log, self._stored = devices.turn, log, stored
        self.told = stored if stored is not None else pb.Floors()
        self._log_line = structlog.get_logger("edge").bind(facility_id=devices.shape.facility_id)

    def hear(self, floors: pb.Floors) -> bool:
        """Go by these from now on; whether they have to be stored."""
        if not _is_sound(floors):
            metrics.REFUSED.labels("floors").inc()
            self._log_line.warning("floors were refused", code=RefusalCode.BAD_MESSAGE.value, floors=len(floors.floors))
            return False
        self.told = floors
        return floors != (self._stored or pb.Floors())

    async def store(self) -> None:
        """Keep them over a restart; where the disk refuses, the next heartbeat brings them again."""
        async with self._turn:
            told = self.told
            if told == (self._stored or pb.Floors()):
                return
            try:
                await self._log.append([(self._log.reserve(), "floors", told.SerializeToString())])
                self._stored = told
            except StorageError as error:
                self._log_line.error("floors could not be stored; tried again", error=str(error))

    def keep(self, shape: FacilityShape, present: Ints, targets: Ints, now_s: float) -> Ints:
        """[g, s] targets of which what counts falls no lower than the floors at a simulated Unix instant."""
        holding = [floor for floor in self.told.floors if floor.start_s <= now_s < floor.end_s]
        if not holding:
            return targets
        counts = [all(group_id in floor.sheddable for floor in holding) for group_id in shape.group_ids]
        return held_above(shape, present, targets, np.array(counts), sum(floor.mw for floor in holding))


def _is_sound(floors: pb.Floors) -> bool:
    numbers = [number for floor in floors.floors for number in (floor.mw, floor.start_s, floor.end_s)]
    is_finite = all(math.isfinite(number) for number in numbers)
    return is_finite and len(floors.floors) <= FLOORS_MAX and all(floor.mw >= 0 for floor in floors.floors)
