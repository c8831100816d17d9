"""When work ran, and which of that is billed: from its events and checkpoints, whatever the day. No devices, no prices here.

Billed is what the customer keeps (docs/billing.md). Running adds to a piece of work's progress. A return to the queue, by
pre-emption or because something broke, takes it back to the checkpoint from which it goes on, and the time beyond that is `lost`:
what devices have kept is told after the return. Realtime inference has answered what it has answered. Work that failed for good
through our side is `failed`: nothing is billed.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType

BILLED, LOST, FAILED = "billed", "lost", "failed"
TREATMENTS = (BILLED, LOST, FAILED)
WORK: dict[str, Any] = {  # of a run, as things stood when it began
    "workload_id": pl.String, "customer_id": pl.String, "type": pl.String, "gpu_type": pl.String, "gpu_count": pl.Int32,
    "facility_id": pl.String, "usd_per_gpu_hour": pl.Float64, "lease_epoch": pl.Int64,
}  # fmt: skip
EVENT: dict[str, Any] = WORK | {
    "id": pl.Int64, "new_status": pl.String, "is_waiting": pl.Boolean, "retries_left": pl.Int32, "occurred_at": INSTANT,
    "recorded_at": INSTANT,
}  # fmt: skip
CHECKPOINT: dict[str, Any] = {"workload_id": pl.String, "progress_s": pl.Float64, "recorded_at": INSTANT}
PART: dict[str, Any] = WORK | {"run": pl.Int64, "from_at": INSTANT, "until_at": INSTANT, "treatment": pl.String}
SLICE: dict[str, Any] = {"part": pl.UInt32, "start_at": INSTANT, "hours": pl.Float64}
_OF_WORK = "workload_id"
_NEVER = float("inf")
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


def parts_of(events: pl.DataFrame, checkpoints: pl.DataFrame, until: datetime) -> pl.DataFrame:
    """The time in which work ran (PART): a run is in one part, or in two where its end was lost.

    Args:
        events: all of each piece of work (EVENT).
        checkpoints: theirs (CHECKPOINT).
        until: now; what runs still has run until then.
    """
    ordered = events.sort(_OF_WORK, "id").with_columns(
        run=(pl.col("new_status") == WorkloadState.RUNNING).cum_sum().over(_OF_WORK).cast(pl.Int64),
        ended_at=pl.when(pl.col(_OF_WORK) == pl.col(_OF_WORK).shift(-1)).then(pl.col("occurred_at").shift(-1)),
    )
    runs = _billed(_runs(ordered, until), _kept(ordered, checkpoints))
    billed = runs.join(_failed(ordered), on=_OF_WORK, how="left", maintain_order="left")
    kept_until = pl.col("from_at") + pl.duration(microseconds=(pl.col("billed_s") * 1e6).round().cast(pl.Int64))
    told = pl.when(pl.col("is_failed")).then(pl.lit(FAILED))
    both = [
        billed.with_columns(until_at=kept_until, treatment=told.otherwise(pl.lit(BILLED))),
        billed.with_columns(from_at=kept_until, treatment=told.otherwise(pl.lit(LOST))),
    ]
    parts = pl.concat([frame.select(pl.col(name).cast(kind) for name, kind in PART.items()) for frame in both])
    return parts.filter(pl.col("from_at") < pl.col("until_at")).sort(_OF_WORK, "from_at")


def slices_of(parts: pl.DataFrame, window: tuple[datetime, datetime], interval: timedelta) -> pl.DataFrame:
    """Hours of each part in each interval of a window (SLICE); `part` is the row's number."""
    start, end = (pl.lit(instant, INSTANT) for instant in window)
    inside = parts.with_row_index("part").select(
        "part", from_at=pl.max_horizontal("from_at", start), until_at=pl.min_horizontal("until_at", end)
    )
    inside = inside.filter(pl.col("from_at") < pl.col("until_at"))
    begun = pl.datetime_ranges(pl.col("from_at").dt.truncate(interval), "until_at", interval, closed="left")
    each = inside.with_columns(start_at=begun).explode("start_at")
    span = pl.min_horizontal("until_at", pl.col("start_at") + interval) - pl.max_horizontal("from_at", "start_at")
    hours = span.dt.total_microseconds() / 3.6e9
    return each.with_columns(hours=hours).select(pl.col(name).cast(kind) for name, kind in SLICE.items())


def _runs(ordered: pl.DataFrame, until: datetime) -> pl.DataFrame:
    """Each run with its end, and how long it was."""
    begun = ordered.filter((pl.col("new_status") == WorkloadState.RUNNING) & (pl.col("occurred_at") < until))
    ended = pl.min_horizontal(pl.col("ended_at").fill_null(until), pl.lit(until, INSTANT))
    runs = begun.select(*WORK, "run", from_at="occurred_at", until_at=ended)
    return runs.with_columns(run_s=(pl.col("until_at") - pl.col("from_at")).dt.total_microseconds() / 1e6)


def _kept(ordered: pl.DataFrame, checkpoints: pl.DataFrame) -> pl.DataFrame:
    """By run, how much progress was left after it where it ended, or was given up later, with a return to the queue.

    That is the newest checkpoint as it ran again, and as of now where it has not.
    """
    begins = pl.when(pl.col("new_status") == WorkloadState.RUNNING).then(pl.col("recorded_at"))
    goes_on_at = begins.shift(-1).backward_fill().over(_OF_WORK).fill_null(pl.lit(_FAR, INSTANT))
    returned = (
        ordered.with_columns(recorded_at=goes_on_at)
        .filter(
            (pl.col("new_status") == WorkloadState.PAUSED)
            & pl.col("is_waiting")
            & (pl.col("type") != WorkloadType.AI_INFERENCE_REALTIME)
        )
        .sort("recorded_at")
    )
    held = checkpoints.select(*CHECKPOINT).sort("recorded_at")
    found = returned.join_asof(held, on="recorded_at", by=_OF_WORK, check_sortedness=False)
    return found.group_by(_OF_WORK, "run").agg(kept_s=pl.col("progress_s").fill_null(0.0).min())


def _failed(ordered: pl.DataFrame) -> pl.DataFrame:
    """Whether work failed for good with its retries used up; where the fault is its own, its holder asks for none."""
    last = ordered.group_by(_OF_WORK, maintain_order=True).last()
    ours = (pl.col("retries_left") == 0) & (pl.col("type") != WorkloadType.AI_INFERENCE_REALTIME)
    return last.select(_OF_WORK, is_failed=(pl.col("new_status") == WorkloadState.FAILED) & ours)


def _billed(runs: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """`billed_s` of each run: the progress that it made and that no return to the queue, then or later, took back.

    With S the running time before a run and C what the return after a run left of it, progress before run k is
    P(k) = S(k) + min(0, C(j) − S(j + 1) over j < k), and what is left of run k ends at the least C from it on.
    """
    whole = runs.join(kept, on=_OF_WORK, how="anti").with_columns(billed_s="run_s")  # nearly all, and cheap
    returned = (
        runs.join(kept, on=_OF_WORK, how="semi").join(kept, on=[_OF_WORK, "run"], how="left").sort(_OF_WORK, "run")
    )
    left, after = pl.col("kept_s").fill_null(_NEVER), pl.col("run_s").cum_sum().over(_OF_WORK)
    gone = (left - after).cum_min().shift(1).over(_OF_WORK).fill_null(0.0).clip(upper_bound=0.0)
    begun_s = after - pl.col("run_s") + gone
    least = left.cum_min(reverse=True).over(_OF_WORK)
    billed = returned.with_columns(billed_s=pl.min_horizontal((least - begun_s).clip(0.0), pl.col("run_s")))
    return pl.concat([whole, billed.select(whole.columns)])
