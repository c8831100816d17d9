"""Scheduled groups as places for work, and which waiting work gets GPUs where: whole pieces, in the queue's own order. Pure.

GPUs are shared out by the queue (what must run now, then levels with their ageing, then what has to start first), megawatts by
dollars: what has found a place here may still be priced out by its strikes.
"""

import math
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
_KIND = ("type", "gpu_type", "memory_gb", "in_facility", "not_facility", "region")
ELSEWHERE = -1  # a facility whose inputs are missing, or a group that works for the queue no more
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

    def is_there(self, in_facility: str | None, not_facility: str | None, region: str | None) -> bool:
        """Whether it is where the work asks to be; nothing said, anywhere."""
        facility_id = self.site.facility_id
        is_near = not region or region.casefold() in self.site.regions
        return is_near and facility_id != not_facility and in_facility in (None, "", facility_id)


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
    """The work with `place`, its number among `places` (null: none), `is_held`, and `why` it has none (as `schema.Unplaced`).

    Work whose limit is below the rate of its class waits for a lower one: the scheduler doesn't sell below its rate.

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
    why = _give_out(work, places, free, found, is_held)
    return work.with_columns(
        place=pl.Series(found, dtype=pl.Int64), is_held=pl.Series(is_held), why=pl.Series(why, dtype=pl.String)
    ).filter(~pl.col("is_held") | pl.col("place").is_not_null())


def beside_elsewhere(work: pl.DataFrame, found: pl.DataFrame, places: Sequence[Place]) -> pl.DataFrame:
    """The work of `placed` and what holds GPUs elsewhere, at `ELSEWHERE`: all that asks, wherever that is.

    Args:
        work: what was placed.
        found: what became of it.
        places: the same.
    """
    here = {(p.site.facility_id, p.group.group_id) for p in places}
    keys = zip(work["facility_id"].to_list(), work["group_id"].to_list(), strict=True)
    is_elsewhere = pl.Series([key[1] is not None and key not in here for key in keys], dtype=pl.Boolean)
    elsewhere = work.filter(is_elsewhere).with_columns(place=pl.lit(ELSEWHERE, pl.Int64), is_held=True, why=pl.lit(""))
    return pl.concat([found, elsewhere.select(found.columns)])


class _Kind:
    """Work of one class, GPU and memory that asks for the same sites: the places that can do it, and what it is sold at there."""

    def __init__(
        self,
        places: Sequence[Place],
        workload_type: str,
        gpu_type: str,
        memory_gb: float | None,
        *where: str | None,
    ) -> None:
        kind = WorkloadType(workload_type)
        self.fitting = [n for n, p in enumerate(places) if p.takes(kind, gpu_type, memory_gb) and p.is_there(*where)]
        self.rates = {n: places[n].usd_per_gpu_hour * places[n].rate_fraction(kind) for n in self.fitting}
        self.lowest_rate = min(self.rates.values(), default=math.inf)
        self.most = max((places[n].group.devices for n in self.fitting), default=0)
        self.too_many = self.most + 1  # what was free once and isn't now never is again

    def place_for(self, gpus: int, limit_usd_per_gpu_hour: float, free: Sequence[int]) -> tuple[int | None, str]:
        """The first place with so many free, or why there is none."""
        if gpus > self.most:
            return None, "no_group"
        if limit_usd_per_gpu_hour < self.lowest_rate:
            return None, "rate"
        if gpus >= self.too_many:
            return None, "no_gpus"
        for n in self.fitting:
            if free[n] >= gpus and self.rates[n] <= limit_usd_per_gpu_hour:
                return n, ""
        if any(free[n] >= gpus for n in self.fitting):
            return None, "rate"
        self.too_many = gpus
        return None, "no_gpus"


def _give_out(
    work: pl.DataFrame, places: Sequence[Place], free: list[int], found: list[int | None], is_held: Bools
) -> list[str]:
    """Give waiting work its places in `found`, out of the `free` GPUs of each; why each piece has none."""
    why = [""] * len(work)
    keys = list(zip(*(work[name].to_list() for name in _KIND), strict=True))
    kinds = {key: _Kind(places, *key) for key in dict.fromkeys(keys)}
    limits = work["limit_usd_per_gpu_hour"].fill_null(math.inf).to_list()
    gpus, turns = work["gpus"].to_list(), _in_turn(work)
    for row in turns[~is_held[turns]].tolist():
        place, why[row] = kinds[keys[row]].place_for(gpus[row], limits[row], free)
        if place is not None:
            found[row], free[place] = place, free[place] - gpus[row]
    return why


def _in_turn(work: pl.DataFrame) -> Ints:
    """Row numbers in the queue's order."""
    order = work.select(
        pl.arg_sort_by(
            [~pl.col("is_urgent"), pl.col("level"), pl.col("start_in_s"), pl.col("number")], nulls_last=True
        ).cast(pl.Int64)
    )
    turns: Ints = order.to_series().to_numpy()
    return turns
