"""What of the queue's work a policy serves at a price, and at which price it would serve the rest. Pure.

Of an explanation's blocks: each piece of work is counted on the lowest step of its group's ladder, which all work stands on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hcp_pipelines.policy.schema import Policy


class WorkWord(Protocol):
    """A block at the present price; `explaining.BlockWord` is one."""

    @property
    def group_id(self) -> str:
        """Of the policy."""
        ...

    @property
    def from_state(self) -> str:
        """A label."""
        ...

    @property
    def devices(self) -> int:
        """That the block is for."""
        ...

    @property
    def on_then(self) -> int:
        """Of these, at the price."""
        ...

    @property
    def on_usd_per_mwh(self) -> float:
        """Its on-strike."""
        ...

    @property
    def workload_type(self) -> str:
        """Of the work behind it; empty: none."""
        ...


@dataclass(frozen=True, slots=True)
class Unserved:
    """GPUs of a class's work that are asked for and may not run; `first_below` and `all_below` in $/MWh of the decision price.

    Null: its price is right, a limit has no room.
    """

    workload_type: str
    gpus: int
    first_below_usd_per_mwh: float | None
    all_below_usd_per_mwh: float | None


@dataclass(frozen=True, slots=True)
class Placeless:
    """As `schema.Unplaced`, in plain values."""

    workload_type: str
    gpu_type: str
    jobs: int
    gpus: int
    usd_per_gpu_hour: float
    why: str
    than_usd_per_gpu_hour: float | None


@dataclass(frozen=True, slots=True)
class Served:
    """GPUs that the queue asks this facility for, those that may run, and what is left, here and of the whole queue."""

    asked_gpus: int
    running_gpus: int
    unserved: tuple[Unserved, ...]
    unplaced: tuple[Placeless, ...]


def served(
    policy: Policy, words: Sequence[WorkWord], price_usd_per_mwh: float, adder_usd_per_mwh: float
) -> Served | None:
    """Null for a policy without work."""
    lowest = {group.group_id: group.ladder[0].state.label for group in policy.groups}
    mine = [w for w in words if w.workload_type and w.from_state == lowest[w.group_id]]
    if not mine and not policy.unplaced:
        return None
    short: dict[str, list[tuple[float, int]]] = {}
    for word in mine:
        if word.on_then < word.devices:
            strikes = short.setdefault(word.workload_type, [])
            strikes.append((word.on_usd_per_mwh - adder_usd_per_mwh, word.devices - word.on_then))
    asked, running = sum(w.devices for w in mine), sum(w.on_then for w in mine)
    placeless = tuple(Placeless(**each.model_dump()) for each in policy.unplaced)
    return Served(asked, running, tuple(_unserved(short, price_usd_per_mwh)), placeless)


def _unserved(short: Mapping[str, Sequence[tuple[float, int]]], price: float) -> list[Unserved]:
    found = []
    for workload_type, strikes in sorted(short.items()):
        priced_out = [strike for strike, _ in strikes if strike <= price]
        gpus = sum(n for strike, n in strikes if strike <= price)
        if gpus:
            found.append(Unserved(workload_type, gpus, max(priced_out), min(priced_out)))
        without_room = sum(n for strike, n in strikes if strike > price)
        if without_room:
            found.append(Unserved(workload_type, without_room, None, None))
    return found
