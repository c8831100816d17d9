"""Which work must run now, or misses its deadline. Pure.

A piece must run when it can't wait for another interval; and all that is due by some instant must when it would take every GPU
of its kind until then. What can't be done in time any more need not: it is worth what it pays, and no more.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.optimizer.steps import INTERVAL_H

LEAST_LEFT_S = 60.0  # of work that has run for longer than was estimated
_H = 3600.0

Bools = npt.NDArray[np.bool_]


def with_urgency(work: pl.DataFrame, gpus_by_type: dict[str, int]) -> pl.DataFrame:
    """The work with `left_s` of running, whether it `is_in_time`, and whether it `is_urgent`.

    Args:
        work: of `read_queue`.
        gpus_by_type: GPUs of scheduled groups, by the type that work names.
    """
    done_s = pl.col("saved_s") + pl.col("unsaved_s")
    left = work.with_columns(left_s=pl.max_horizontal(pl.col("estimated_s") - done_s, LEAST_LEFT_S))
    timed = left.with_columns(is_in_time=(pl.col("due_in_s") >= pl.col("left_s")).fill_null(value=False))
    cannot_wait = (timed["due_in_s"] - timed["left_s"] < INTERVAL_H * _H).fill_null(value=False).to_numpy()
    is_tight = np.zeros(len(timed), dtype=bool)
    for gpu_type, gpus in gpus_by_type.items():
        mine = np.flatnonzero((timed["gpu_type"] == gpu_type).to_numpy() & timed["is_in_time"].to_numpy())
        is_tight[mine] = _tight(timed[mine], gpus)
    return timed.with_columns(is_urgent=pl.Series((cannot_wait | is_tight) & timed["is_in_time"].to_numpy()))


def _tight(work: pl.DataFrame, gpus: int) -> Bools:
    """Due no later than the last instant until which all GPUs are needed for what is due by then."""
    due_s, load = work["due_in_s"].to_numpy(), (work["gpus"] * work["left_s"]).to_numpy()
    order = np.argsort(due_s, kind="stable")
    is_full = np.cumsum(load[order]) >= gpus * due_s[order]
    last_s = due_s[order][is_full].max(initial=-np.inf)
    found: Bools = due_s <= last_s
    return found
