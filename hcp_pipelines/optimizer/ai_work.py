"""What AI work asks for over the hours ahead: inference by value, jobs by deadline. One protocol, whoever knows of the work.

`SyntheticWork` is made up and repeats daily; the back-test's presets have it until a queue of real work can be asked instead.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hcp_pipelines.optimizer.programme.spec import Floats, Training

Ints = npt.NDArray[np.int64]
NIGHT_UNTIL, EVENING_FROM = 7, 17  # local hours
NIGHT_SHARE, DAY_SHARE = 2 / 3, 5 / 6  # of the evening's inference


@dataclass(frozen=True)
class Ahead:
    """The hours that are asked about, [h] each: when they begin, where they lie in local days; so many intervals an hour."""

    starts_us: Ints
    local_hour: Ints
    day: Ints
    steps: int

    @property
    def intervals(self) -> int:
        """Of all hours."""
        return self.steps * len(self.day)


@dataclass(frozen=True)
class Inference:
    """Requests by class of value: `usd_per_mwh` [k] is what a MWh of it pays, `mw` [k, t] what is asked for."""

    usd_per_mwh: Floats
    mw: Floats


class AiWork(Protocol):
    """What a facility's AI work asks for, and the most MW of it that can come at once, all-in."""

    @property
    def most_inference_mw(self) -> float:
        """Of all classes together."""
        ...

    @property
    def most_training_mw(self) -> float:
        """Of all jobs together."""
        ...

    def inference(self, ahead: Ahead) -> Inference:
        """Demand in the intervals ahead."""
        ...

    def jobs(self, ahead: Ahead) -> tuple[tuple[Training, ...], ...]:
        """Jobs whose time lies wholly ahead, by slot: those of one follow one another. Release and deadline are intervals."""
        ...


@dataclass(frozen=True)
class InferenceClass:
    """Requests of one value: so many MW at the height of the day, by night a third of that less."""

    usd_per_mwh: float
    peak_mw: float


@dataclass(frozen=True)
class DailyJob:
    """Training that may run from an hour of each local day until midnight; what is not done by then is not paid."""

    name: str
    release_hour: int
    work_mwh: float
    most_mw: float
    usd_per_mwh: float


@dataclass(frozen=True)
class SyntheticWork:
    """Made-up work, the same every day: each daily job is a slot."""

    classes: tuple[InferenceClass, ...] = ()
    daily: tuple[DailyJob, ...] = ()

    @property
    def most_inference_mw(self) -> float:
        """Of all classes together."""
        return sum(each.peak_mw for each in self.classes)

    @property
    def most_training_mw(self) -> float:
        """Of all jobs together."""
        return sum(job.most_mw for job in self.daily)

    def inference(self, ahead: Ahead) -> Inference:
        """Three steps a local day."""
        periods = [ahead.local_hour < NIGHT_UNTIL, ahead.local_hour < EVENING_FROM]
        level = np.select(periods, [NIGHT_SHARE, DAY_SHARE], 1.0)
        hourly = np.array([[each.peak_mw] for each in self.classes]).reshape(-1, 1) * level
        return Inference(np.array([each.usd_per_mwh for each in self.classes]), np.repeat(hourly, ahead.steps, axis=1))

    def jobs(self, ahead: Ahead) -> tuple[tuple[Training, ...], ...]:
        """Those of whole local days."""
        days = whole_days(ahead)
        return tuple(tuple(_on(ahead, day, job) for day in days) for job in self.daily)

    def scaled(self, share: float) -> "SyntheticWork":
        """So much of every MW and MWh, at the same values."""
        return SyntheticWork(
            tuple(replace(each, peak_mw=each.peak_mw * share) for each in self.classes),
            tuple(replace(job, work_mwh=job.work_mwh * share, most_mw=job.most_mw * share) for job in self.daily),
        )


NO_WORK = SyntheticWork()


def whole_days(ahead: Ahead) -> list[slice]:
    """Hours of each local day that lies wholly ahead."""
    days, first, counts = np.unique(ahead.day, return_index=True, return_counts=True)
    ends, hour = first + counts, ahead.local_hour
    keep = [n for n in range(len(days)) if hour[first[n]] == 0 and hour[ends[n] - 1] == 23]
    return [slice(int(first[n]), int(ends[n])) for n in keep]


def _on(ahead: Ahead, day: slice, job: DailyJob) -> Training:
    """A daily job of one day."""
    released = day.start + int(np.argmax(ahead.local_hour[day] >= job.release_hour))
    return Training(
        f"{job.name}-{day.start}",
        job.work_mwh,
        released * ahead.steps,
        day.stop * ahead.steps,
        job.most_mw,
        job.usd_per_mwh,
    )
