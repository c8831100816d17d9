"""Scheduled groups as places for work, and which waiting work gets GPUs where: whole pieces, in the queue's own order. Pure.

GPUs are shared out by the queue (what must run now, then levels with their ageing, then what has to start first), megawatts by
dollars: what has found a place here may still be priced out by its strikes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs

STATE_OF = {each: state for each in WorkloadType for state in DeviceState if state.mode.value == each.value}
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
GPU_WORK = (WorkloadType.AI_INFERENCE_REALTIME, WorkloadType.AI_INFERENCE_BATCH, WorkloadType.MODEL_TRAINING)


@dataclass(frozen=True)
class Place:
    """A scheduled group at the prices of a solve."""

    site: SiteInputs
    group: GroupInputs
    price_usd_per_mwh: float
    usd_per_gpu_hour: float  # the market's, on demand

    def climb_kw(self, workload_type: WorkloadType) -> float | None:
        """All-in kW from rest up to what a class of work needs; None where the group can't be in that state."""
        rest = self.group.ladder[0].power_kw
        found = (s.power_kw - rest for s in self.group.ladder[1:] if s.state is STATE_OF[workload_type])
        return next(found, None)

    def rate_fraction(self, workload_type: WorkloadType) -> float:
        """What a class sells at here, over the market's rate."""
        return self.site.gpu_rate_fraction.get(STATE_OF[workload_type], 1.0)

    def takes(self, workload_type: WorkloadType, gpu_type: str, memory_gb: float | None) -> bool:
        """Whether its devices can do such work."""
        group = self.group
        is_named = gpu_type in (group.gpu_type, group.model, group.type.value)
        has_memory = memory_gb is None or group.memory_gb is None or memory_gb <= group.memory_gb
        return is_named and has_memory and self.climb_kw(workload_type) is not None


def places_of(inputs: Sequence[FacilityInputs]) -> list[Place]:
    """The scheduled groups of some facilities, where power is cheapest first."""
    found = [
        Place(each.site, group, each.decision_price_usd_per_mwh, each.indices[group.index])
        for each in inputs
        for group in each.site.groups
        if group.is_scheduled and group.type is ResourceType.GPU and group.index in each.indices
    ]
    return sorted(found, key=lambda p: (p.price_usd_per_mwh, p.site.facility_id, p.group.group_id))


def placed(work: pl.DataFrame, places: Sequence[Place]) -> pl.DataFrame:
    """The work with `place`, its number among `places` (null: none), `is_held`, and `can_run`: whether any group could.

    Args:
        work: of `read_queue`, with `is_urgent`.
        places: of `places_of`. Work that holds GPUs elsewhere has no place and is left out.
    """
    number = {(p.site.facility_id, p.group.group_id): n for n, p in enumerate(places)}
    keys = zip(work["facility_id"].to_list(), work["group_id"].to_list(), strict=True)
    found: list[int | None] = [number.get(key) for key in keys]
    free = [p.group.devices for p in places]
    for place, gpus in zip(found, work["gpus"].to_list(), strict=True):
        if place is not None:
            free[place] -= gpus
    is_held = work["group_id"].is_not_null().to_numpy()
    can_run = _give_out(work, places, free, found, is_held)
    return work.with_columns(
        place=pl.Series(found, dtype=pl.Int64), is_held=pl.Series(is_held), can_run=pl.Series(can_run, dtype=pl.Boolean)
    ).filter(~pl.col("is_held") | pl.col("place").is_not_null())


def _give_out(
    work: pl.DataFrame, places: Sequence[Place], free: list[int], found: list[int | None], is_held: Bools
) -> list[bool]:
    """Give waiting work its places in `found`, out of the `free` GPUs of each; whether each piece could run anywhere."""
    can_run = [True] * len(work)
    kinds = list(zip(*(work[name].to_list() for name in ("type", "gpu_type", "memory_gb")), strict=True))
    fitting = {
        kind: [n for n, p in enumerate(places) if p.takes(WorkloadType(kind[0]), kind[1], kind[2])]
        for kind in dict.fromkeys(kinds)
    }
    most = {kind: max((places[n].group.devices for n in fits), default=0) for kind, fits in fitting.items()}
    too_many = {kind: devices + 1 for kind, devices in most.items()}  # what was free once and isn't now never is again
    gpus, turns = work["gpus"].to_list(), _in_turn(work)
    for row in turns[~is_held[turns]].tolist():
        kind, wanted = kinds[row], gpus[row]
        can_run[row] = wanted <= most[kind]
        if wanted >= too_many[kind]:
            continue
        place = next((n for n in fitting[kind] if free[n] >= wanted), None)
        if place is None:
            too_many[kind] = wanted
        else:
            found[row], free[place] = place, free[place] - wanted
    return can_run


def _in_turn(work: pl.DataFrame) -> Ints:
    """Row numbers in the queue's order."""
    order = work.select(
        pl.arg_sort_by(
            [~pl.col("is_urgent"), pl.col("level"), pl.col("start_in_s"), pl.col("number")], nulls_last=True
        ).cast(pl.Int64)
    )
    turns: Ints = order.to_series().to_numpy()
    return turns
