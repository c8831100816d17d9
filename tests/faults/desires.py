"""What a scheduler desires of a universe's GPUs: rows under leases that are withdrawn, replaced, or simply run out."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hcp_pipelines.allocator.desired_table import RowWork, StoredRows
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.inventory import FacilityInventory
from tests.faults.records import Span
from tests.faults.schedule import Happening, Names

DESIRE_EACH_S = 4.0
LASTS_S = (5.0, 250.0)
STATE = int(DeviceState.INFERENCE_REALTIME)


@dataclass
class DesiredRow:
    """A row of `desired_state`; `slots` are numbers within the group."""

    row_id: int
    facility_id: str
    group_id: str
    first_slot: int
    slots: tuple[int, ...]
    priority: int
    from_s: float
    until_s: float
    is_withdrawn: bool = False

    @property
    def workload_id(self) -> str:
        """Whose it is."""
        return f"work-{self.row_id}"


class DesiredTable:
    """The rows, and what the checker is told of them."""

    def __init__(self) -> None:
        self.rows: list[DesiredRow] = []

    def in_force(self, facility_ids: Iterable[str], now_s: float) -> dict[str, StoredRows]:
        """As the statement reads them: in line, each with the seconds that its lease still has."""
        return {facility_id: self._stored(facility_id, now_s) for facility_id in facility_ids}

    def _stored(self, facility_id: str, now_s: float) -> StoredRows:
        rows = [r for r in self.rows if r.facility_id == facility_id and r.until_s > now_s]
        rows.sort(key=lambda r: (-r.priority, r.row_id))
        return StoredRows(
            [r.row_id for r in rows], [r.group_id for r in rows], [STATE] * len(rows), [1] * len(rows),
            [len(r.slots) for r in rows], [False] * len(rows), [r.until_s - now_s for r in rows],
            b"".join(np.array(r.slots, dtype="<u4").tobytes() for r in rows),
            [RowWork(r.workload_id, "m", 16.0, 1, "cold") for r in rows],
        )  # fmt: skip

    def desire(self, made: FacilityInventory, rng: random.Random, now_s: float, for_s: float) -> DesiredRow | None:
        """Some GPUs that nobody has; None where there are none."""
        group = next((g for g in made.groups if g.group_id in made.scheduled), None)
        if group is None:
            return None
        taken = {s for r in self.rows if r.facility_id == made.facility_id and r.until_s > now_s for s in r.slots}
        free = [s for s in range(group.devices) if s not in taken]
        slots = tuple(sorted(rng.sample(free, min(len(free), rng.randint(1, 6)))))
        if not slots:
            return None
        row = DesiredRow(
            len(self.rows) + 1, made.facility_id, group.group_id, group.first_slot, slots, rng.randint(0, 100), now_s,
            now_s + for_s,
        )  # fmt: skip
        self.rows.append(row)
        return row

    def withdraw(self, row: DesiredRow, now_s: float) -> bool:
        """Take a row back; False where its lease has run out."""
        if row.until_s <= now_s:
            return False
        row.until_s, row.is_withdrawn = now_s, True
        return True

    def spans(self) -> Iterator[Span]:
        """For the checker."""
        for row in self.rows:
            slots = tuple(row.first_slot + s for s in row.slots)
            how = "withdrawn" if row.is_withdrawn else "ran out"
            yield Span("desired", row.facility_id, row.from_s, row.until_s, how, slots=slots)


def make_desires(seed: str, names: Names, lasts_s: float) -> list[Happening]:
    """What a scheduler will desire; a half of it is withdrawn in time (`amount` under 0.5), the rest runs out."""
    rng = random.Random(f"{seed}/desires")
    found, at_s = [], rng.expovariate(1 / DESIRE_EACH_S)
    while at_s < lasts_s:
        found.append(
            Happening(
                round(at_s, 3), "desire", rng.choice(names.facilities), round(rng.uniform(*LASTS_S), 3), rng.random()
            )
        )
        at_s += rng.expovariate(1 / DESIRE_EACH_S)
    return found
