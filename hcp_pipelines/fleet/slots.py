"""Which slots a facility's groups get: permanent across generations, so that a device keeps its number. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hcp_pipelines.domain.errors import ConfigError

MAX_SLOTS = 1_000_000


@dataclass(frozen=True, slots=True)
class SlotRange:
    """Slots `first … first + devices − 1`."""

    first: int
    devices: int

    @property
    def end(self) -> int:
        """The first slot after the range."""
        return self.first + self.devices


def assign_slots(wanted: Sequence[tuple[str, int]], present: Mapping[str, SlotRange]) -> dict[str, SlotRange]:
    """Slot ranges of the groups wanted (id, devices), given those of the generation before.

    A group stays where it is if it shrinks, or if the slots behind it are free; else it moves to the first gap that
    holds it, or to the end.

    >>> assign_slots([("a", 3), ("b", 2)], {})
    {'a': SlotRange(first=0, devices=3), 'b': SlotRange(first=3, devices=2)}
    >>> assign_slots([("a", 4), ("b", 2)], {"a": SlotRange(0, 3), "b": SlotRange(3, 2)})
    {'a': SlotRange(first=5, devices=4), 'b': SlotRange(first=3, devices=2)}

    Raises:
        ConfigError: more than a million slots, gaps counted.
    """
    kept: dict[str, SlotRange] = {}
    staying = {group_id: present[group_id] for group_id, _ in wanted if group_id in present}
    for group_id, devices in wanted:
        if group_id in staying:
            place = SlotRange(staying[group_id].first, devices)
            others = [kept.get(other, r) for other, r in staying.items() if other != group_id]
            if not any(_overlap(place, other) for other in others):
                kept[group_id] = place
    taken = list(kept.values())
    for group_id, devices in wanted:
        if group_id not in kept:
            kept[group_id] = _first_gap(devices, taken)
            taken.append(kept[group_id])
    end = max((r.end for r in taken), default=0)
    if end > MAX_SLOTS:
        raise ConfigError(f"{end} slots, gaps between groups counted; the limit is {MAX_SLOTS}: split the facility")
    return {group_id: kept[group_id] for group_id, _ in wanted}


def _overlap(a: SlotRange, b: SlotRange) -> bool:
    return a.first < b.end and b.first < a.end


def _first_gap(devices: int, taken: Sequence[SlotRange]) -> SlotRange:
    first = 0
    for other in sorted(taken, key=lambda r: r.first):
        if first + devices <= other.first:
            break
        first = max(first, other.end)
    return SlotRange(first, devices)
