"""The value curve of a group: thousands of pieces of work as a few steps that are worth about the same. Pure."""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.economics.preemption import preemption_cost_usd, reload_s
from hcp_pipelines.optimizer.band import PLAIN
from hcp_pipelines.optimizer.inputs import WorkStep
from hcp_pipelines.optimizer.queue.places import GPU_WORK, STATE_OF, Place
from hcp_pipelines.optimizer.steps import INTERVAL_H
from hcp_pipelines.policy.schema import Affine, Unplaced

STEPS_EACH = 3  # of one state, held or waiting, urgent or not: by off-strike, each of about as many GPUs
_KIND = ("place", "state", "type", "is_held", "is_urgent")
_MEANS = ("worth_slope", "worth_offset", "on_offset", "off_offset", "stop_usd_per_mw", "usd_per_gpu_hour")


def steps_by_place(work: pl.DataFrame) -> dict[int, tuple[WorkStep, ...]]:
    """The steps of each place, from the work of `valued`; means are by GPUs."""
    share = (pl.col("gpus").cum_sum() - pl.col("gpus") / 2) / pl.col("gpus").sum()
    cut = (
        work.sort(*_KIND, "off_usd_per_mwh")
        .with_columns(step=(share.over(_KIND) * STEPS_EACH).floor().cast(pl.Int64))
        .with_columns(step=pl.col("step").min().over(*_KIND, "off_usd_per_mwh"))  # what is worth the same is one step
    )
    each = cut.group_by(*_KIND, "step", maintain_order=True).agg(
        pl.col("gpus").sum(),
        pl.len().alias("jobs"),
        pl.col("usd_per_gpu_hour").min().alias("lowest"),
        pl.col("usd_per_gpu_hour").max().alias("highest"),
        *(_mean(name) for name in _MEANS),
    )
    found: dict[int, list[WorkStep]] = {}
    for row in each.iter_rows(named=True):
        found.setdefault(row["place"], []).append(
            WorkStep(
                state=DeviceState(row["state"]),
                gpus=row["gpus"],
                worth=Affine(slope=row["worth_slope"], offset=row["worth_offset"]),
                on=Affine(slope=row["worth_slope"], offset=row["on_offset"]),
                off=Affine(slope=row["worth_slope"], offset=row["off_offset"]),
                stop_usd_per_mw=row["stop_usd_per_mw"],
                usd_per_gpu_hour=row["usd_per_gpu_hour"],
                workload_type=row["type"],
                words=_words(row),
            )
        )
    return {place: tuple(steps) for place, steps in found.items()}


def spare_step(place: Place, taken: int, fraction: float, expected: int = 0) -> tuple[WorkStep, ...]:
    """Room for work that comes before the next solve: a share of the group's GPUs, a node's at least, as far as they are free.

    Where more is expected, room for that; where the share is 0, none whatever is expected.

    At the market's rate times the share of hours that is sold; in the state that draws most, whose places any work may take.
    """
    group = place.group
    wanted = max(math.ceil(fraction * group.devices), group.gpus_per_node, expected) if fraction > 0 else 0
    gpus = min(wanted, group.devices - taken)
    kinds = [(each, kw) for each in GPU_WORK if (kw := place.climb_kw(each)) is not None]
    if gpus <= 0 or not kinds:
        return ()
    kind, kw = max(kinds, key=lambda each: each[1])
    fraction_sold = place.rate_fraction(kind) * place.site.gpu_utilization
    rate = fraction_sold * place.usd_per_gpu_hour
    load_usd_per_mw = preemption_cost_usd(0.0, rate, reload_s(kind), 0.0) * 1000 / kw
    slope, offset = fraction_sold * 1000 / kw, 0.0 - place.site.adders_usd_per_mwh
    on, off = PLAIN.around(offset, load_usd_per_mw / INTERVAL_H)
    words = f"room for work to come, {rate:.2f} $/GPU-hour by the share of hours sold"
    words += f"; {expected} GPUs expected" if expected else ""
    step = WorkStep(
        STATE_OF[kind], gpus, Affine(slope=slope, offset=offset), Affine(slope=slope, offset=on),
        Affine(slope=slope, offset=off), load_usd_per_mw, rate, "", words,
    )  # fmt: skip
    return (step,)


def unplaced(work: pl.DataFrame, served: pl.DataFrame, places: Sequence[Place]) -> tuple[Unplaced, ...]:
    """Waiting work that has no place, by class, GPU and why.

    Args:
        work: of `placed`.
        served: of `valued`.
        places: the same.
    """
    without = work.filter(pl.col("place").is_null())
    if without.is_empty():
        return ()
    index = {p.group.gpu_type: p.usd_per_gpu_hour for p in places}
    market = pl.col("gpu_type").replace_strict(index, default=max(index.values(), default=0.0), return_dtype=pl.Float64)
    least = dict(served.group_by("gpu_type").agg(pl.col("usd_per_gpu_hour").min()).iter_rows())
    rows = (
        without.with_columns(rate=pl.min_horizontal(market, "limit_usd_per_gpu_hour"))
        .group_by("type", "gpu_type", "why")
        .agg(pl.len(), pl.col("gpus").sum(), _mean("rate"))
        .sort("type", "gpu_type", "why")
    )
    return tuple(
        Unplaced(
            workload_type=kind, gpu_type=gpu_type, jobs=jobs, gpus=gpus, usd_per_gpu_hour=rate, why=why,
            than_usd_per_gpu_hour={"no_gpus": least.get(gpu_type), "rate": _sold_at(kind, gpu_type, places)}.get(why),
        )
        for kind, gpu_type, why, jobs, gpus, rate in rows.iter_rows()
    )  # fmt: skip


def _sold_at(workload_type: str, gpu_type: str, places: Sequence[Place]) -> float | None:
    """The lowest rate of a class of work on such GPUs."""
    kind = WorkloadType(workload_type)
    rates = (p.usd_per_gpu_hour * p.rate_fraction(kind) for p in places if p.takes(kind, gpu_type, None))
    return min(rates, default=None)


def _mean(name: str) -> pl.Expr:
    """By GPUs."""
    return (pl.col(name) * pl.col("gpus")).sum() / pl.col("gpus").sum()


def _words(row: dict[str, Any]) -> str:
    low, high = f"{row['lowest']:.2f}", f"{row['highest']:.2f}"
    rate = low if low == high else f"{low}–{high}"
    whose = f"{row['jobs']} running" if row["is_held"] else f"{row['jobs']} waiting"
    urgent = ", must run now for their deadlines" if row["is_urgent"] else ""
    return f"{row['type']}: {whose}, {rate} $/GPU-hour{urgent}"
