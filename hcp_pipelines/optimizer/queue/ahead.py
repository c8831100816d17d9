"""The queue over the hours ahead, as the programme and the back-test ask for AI work (`optimizer/ai_work.py`).

Inference at once is demand by class of value, for as long as it is said to last. Batches and training are jobs: what must be
done by when. Thousands of pieces are some dozens of jobs, of like deadline and worth; a job is due when its first piece is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.optimizer.ai_work import Ahead, Inference
from hcp_pipelines.optimizer.programme.spec import Floats, Training

VALUE_CLASSES = 4
DEADLINE_CLASSES = 8
_H = 3600.0
_HOUR_US = 3_600_000_000
_US = 1_000_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Coming:
    """Work that isn't there yet: by class what a MWh of it pays, and MW [k, h] in the hours that begin then."""

    starts_us: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    usd_per_mwh: Floats = field(default_factory=lambda: np.zeros(0))
    mw: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def most_mw(self) -> float:
        """At once."""
        return float(self.mw.sum(axis=0).max(initial=0.0))

    def inference(self, ahead: Ahead) -> Inference:
        """As demand in the intervals ahead; none in hours of which nothing is said."""
        hours = (ahead.starts_us[:, None] == self.starts_us[None, :]).astype(float)
        return Inference(self.usd_per_mwh, np.repeat(self.mw @ hours.T, ahead.steps, axis=1))


@dataclass(frozen=True)
class QueueWork:
    """What waits and runs, as of an instant, and what is expected beside it.

    Args:
        now: the instant.
        served: of `valued`: the work that has a place; MW are all-in, from rest.
        coming: by place.
    """

    now: datetime
    served: pl.DataFrame
    coming: tuple[Coming, ...] = ()

    @property
    def most_inference_mw(self) -> float:
        """Of all that must answer at once, and of all that is expected."""
        return float(self._mw(is_realtime=True).sum()) + sum(each.most_mw for each in self.coming)

    @property
    def most_training_mw(self) -> float:
        """Of all batches and training."""
        return float(self._mw(is_realtime=False).sum())

    def inference(self, ahead: Ahead) -> Inference:
        """By worth, each class as long as its pieces last: mean MW of each interval; then what is expected."""
        parts = [self._there(ahead), *(each.inference(ahead) for each in self.coming)]
        return Inference(
            np.concatenate([each.usd_per_mwh for each in parts]), np.concatenate([each.mw for each in parts])
        )

    def _there(self, ahead: Ahead) -> Inference:
        """Of what waits and runs."""
        work = self._work(is_realtime=True)
        classes = _cut(work["worth_usd_per_mwh"].to_numpy(), VALUE_CLASSES)
        begins_s, length_s = _intervals(ahead, self.now)
        mw, left_s, worth = self._mw(is_realtime=True), work["left_s"].to_numpy(), work["worth_usd_per_mwh"].to_numpy()
        demand, values = np.zeros((len(classes), ahead.intervals)), np.zeros(len(classes))
        for k, rows in enumerate(classes):
            values[k] = worth[rows] @ mw[rows] / mw[rows].sum()
            demand[k] = lasting(left_s[rows], mw[rows], begins_s, length_s)
        return Inference(values, demand)

    def jobs(self, ahead: Ahead) -> tuple[tuple[Training, ...], ...]:
        """A slot each, as all of them may run beside one another; released now.

        What is due beyond the hours ahead, or never, is offered all of them, and nothing is owed if it has to wait.
        """
        return tuple((job,) for job in self._jobs(ahead))

    def _jobs(self, ahead: Ahead) -> Iterator[Training]:
        work, mw = self._work(is_realtime=False), self._mw(is_realtime=False)
        begins_s, length_s = _intervals(ahead, self.now)
        release = int(np.searchsorted(begins_s + length_s, 0.0, side="right"))
        due_s = work["due_in_s"].fill_null(np.inf).to_numpy()
        deadline = np.searchsorted(begins_s + length_s, due_s, side="right")  # whole intervals alone
        is_due = (deadline < ahead.intervals) & work["is_in_time"].to_numpy()
        deadline = np.where(is_due, deadline, ahead.intervals)
        hours = np.minimum(work["left_s"].to_numpy() / _H, (ahead.intervals - release) * length_s / _H)
        worth = work["worth_usd_per_mwh"].to_numpy()
        owed = np.where(is_due, work["owed_usd"].to_numpy() / np.maximum(mw * hours, 1e-12), 0.0)
        for name, rows in _jobs_of(is_due, deadline, worth + owed):
            mwh = mw[rows] * hours[rows]
            if deadline[rows].min() > release and mwh.sum() > 0:
                yield Training(
                    name, float(mwh.sum()), release, int(deadline[rows].min()), float(mw[rows].sum()),
                    float((worth + owed)[rows] @ mwh / mwh.sum()),
                )  # fmt: skip

    def _work(self, *, is_realtime: bool) -> pl.DataFrame:
        is_mine = pl.col("type") == WorkloadType.AI_INFERENCE_REALTIME.value
        return self.served.filter(is_mine if is_realtime else ~is_mine)

    def _mw(self, *, is_realtime: bool) -> Floats:
        work = self._work(is_realtime=is_realtime)
        mw: Floats = (work["gpus"] * work["climb_kw"] / 1000).to_numpy()
        return mw


def _intervals(ahead: Ahead, now: datetime) -> tuple[Floats, float]:
    """When each begins, seconds from now, and how long one is."""
    length_s = _H / ahead.steps
    begins_us = np.repeat(ahead.starts_us, ahead.steps) + np.tile(
        np.arange(ahead.steps) * _HOUR_US // ahead.steps, len(ahead.starts_us)
    )
    return (begins_us - round(now.timestamp() * _US)) / _US, length_s


def lasting(left_s: Floats, mw: Floats, begins_s: Floats, length_s: float | Floats) -> Floats:
    """Mean MW (or GPUs) in each interval of what begins now and lasts so long."""
    order = np.argsort(left_s)
    left, by_left = left_s[order], mw[order]
    energy = np.r_[0.0, np.cumsum(by_left * left)]
    power = np.r_[0.0, np.cumsum(by_left)]

    def until(instant_s: Floats) -> Floats:
        """MW-seconds from now to an instant."""
        n = np.searchsorted(left, instant_s)
        found: Floats = np.where(instant_s > 0, energy[n] + (power[-1] - power[n]) * instant_s, 0.0)
        return found

    return (until(begins_s + length_s) - until(begins_s)) / length_s


def _jobs_of(is_due: "npt.NDArray[np.bool_]", deadline: Ints, worth: Floats) -> Iterator[tuple[str, Ints]]:
    """Names and rows of jobs: like deadlines, and of these like worth."""
    for name, mine in (("due", np.flatnonzero(is_due)), ("open", np.flatnonzero(~is_due))):
        for d, near in enumerate(_cut(deadline[mine].astype(float), DEADLINE_CLASSES)):
            for k, rows in enumerate(_cut(worth[mine][near], VALUE_CLASSES)):
                yield f"{name}-{d}-{k}", mine[near][rows]


def _cut(values: Floats, classes: int) -> list[Ints]:
    """Rows by rising value in so many parts of like size; equal values stay together, empty parts are left out."""
    if not len(values):
        return []
    edges = np.unique(np.quantile(values, np.arange(1, classes) / classes, method="lower"))
    part = np.searchsorted(edges, values)
    return [np.flatnonzero(part == n) for n in np.unique(part)]
