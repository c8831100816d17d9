"""Work that is expected beside what waits and runs: what the demand champion says is asked for, less what asks already.

Nothing is counted twice: what has come since the forecast was asked is in the queue, and is taken off. Forecasts are by class
alone; which GPUs such work wants is taken from the work that there is, where it goes from where power is cheapest. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints, microseconds
from hcp_pipelines.optimizer.queue.ahead import Coming, lasting
from hcp_pipelines.optimizer.queue.places import GPU_WORK, Place
from hcp_pipelines.policy.schema import WorkExpected

_US = 1_000_000


@dataclass(frozen=True)
class Expected:
    """GPUs that each class of work asks for [h], in hours one after the other from the first; none where `word` says why."""

    word: WorkExpected
    starts_us: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    gpus: Mapping[str, Floats] = field(default_factory=dict)

    def in_hours(self, demand_class: str, starts_us: Ints) -> Floats:
        """Of one class; 0 in hours of which nothing is said."""
        said = self.gpus.get(demand_class)
        if said is None or not len(self.starts_us):
            return np.zeros(len(starts_us))
        row = (starts_us - self.starts_us[0]) // HOUR_US
        there = (row >= 0) & (row < len(self.starts_us))
        return np.where(there, said[np.clip(row, 0, len(self.starts_us) - 1)], 0.0)


def nothing_expected(reason: str) -> Expected:
    """What is done without a forecast."""
    return Expected(WorkExpected(reason=reason))


def hours_touched(now: datetime, seconds: float) -> Ints:
    """When the hours begin that some time from now on lies in."""
    first, last = microseconds(now), microseconds(now + timedelta(seconds=seconds))
    return np.arange(first // HOUR_US, -(-last // HOUR_US), dtype=np.int64) * HOUR_US


def to_come(expected: Expected, work: pl.DataFrame, now: datetime, starts_us: Ints) -> dict[str, Floats]:
    """GPUs by class [h] of work that isn't there yet: what is expected less what asks already, never below none.

    What runs or has a place asks for as long as it is said to last, what has none until it has one.

    Args:
        expected: by class and hour.
        work: of `beside_elsewhere`, with `left_s`.
        now: the solve's instant.
        starts_us: the hours that are asked about.
    """
    found = {}
    for kind, mine in _by_class(work):
        placed = mine.filter(pl.col("place").is_not_null())
        waits = float(mine.filter(pl.col("place").is_null())["gpus"].sum())
        still = _asking(placed, now, starts_us) + waits
        found[kind] = np.maximum(expected.in_hours(kind, starts_us) - still, 0.0)
    return found


def beside_all(expected: Expected, work: pl.DataFrame, starts_us: Ints) -> dict[str, Floats]:
    """GPUs by class [h] beside all that asks now, however short it is said to last: a policy has blocks for it until its end."""
    return {
        kind: np.maximum(expected.in_hours(kind, starts_us) - float(mine["gpus"].sum()), 0.0)
        for kind, mine in _by_class(work)
    }


def shared_out(coming: Mapping[str, Floats], work: pl.DataFrame, places: Sequence[Place], free: Floats) -> Floats:
    """[class, place, hour] of `GPU_WORK`: such GPUs as fit into what is `free` [place, hour], where power is cheapest first."""
    left, given = free.copy(), np.zeros((len(GPU_WORK), *free.shape))
    for k, kind in enumerate(GPU_WORK):
        for gpu_type, share in _types(kind, work, places).items():
            wanted = coming[kind.value] * share
            for n, place in enumerate(places):
                if place.takes(kind, gpu_type, None):
                    here = np.minimum(wanted, np.maximum(left[n], 0.0))
                    given[k, n], left[n], wanted = given[k, n] + here, left[n] - here, wanted - here
    return given


def room_by_place(
    expected: Expected,
    work: pl.DataFrame,
    places: Sequence[Place],
    taken: Mapping[int, int],
    when: tuple[datetime, float],
) -> list[int]:
    """GPUs of each place to keep for work that comes within some seconds of an instant, as far as they are free.

    With the blocks of the work that there is, policies never hold more of a class than is expected, or than asks already.

    Args:
        expected: by class and hour.
        work: of `beside_elsewhere`.
        places: the same.
        taken: GPUs that work holds or is to get, by place.
        when: the solve's instant, and for how many seconds its answer has to do.
    """
    starts = hours_touched(*when)
    coming = beside_all(expected, work, starts)
    free = [[float(place.group.devices - taken.get(n, 0))] * len(starts) for n, place in enumerate(places)]
    given = shared_out(coming, work, places, np.array(free)).sum(axis=0)
    return [int(gpus) for gpus in np.ceil(given.max(axis=1, initial=0.0) - 1e-9)]


def coming_by_place(
    expected: Expected, work: pl.DataFrame, served: pl.DataFrame, places: Sequence[Place], now: datetime
) -> list[Coming]:
    """What is expected at each place in the hours of which something is said, at what such work pays there.

    Args:
        expected: by class and hour.
        work: of `beside_elsewhere`.
        served: of `valued`.
        places: the same.
        now: the solve's instant.
    """
    starts = expected.starts_us[expected.starts_us + HOUR_US > microseconds(now)]
    asking = [_asking(served.filter(pl.col("place") == n), now, starts) for n in range(len(places))]
    free = np.array([place.group.devices - asking[n] for n, place in enumerate(places)])
    given = shared_out(to_come(expected, work, now, starts), work, places, free)
    return [_coming(place, given[:, n], starts) for n, place in enumerate(places)]


def _coming(place: Place, gpus: Floats, starts_us: Ints) -> Coming:
    """Of one place; classes of which nothing comes are left out."""
    rows = [
        (place.rate_fraction(kind) * place.usd_per_gpu_hour * 1000 / kw - place.site.adders_usd_per_mwh, gpus[k] * kw / 1000)
        for k, kind in enumerate(GPU_WORK)
        if (kw := place.climb_kw(kind)) is not None and gpus[k].any()
    ]  # fmt: skip
    worth, mw = np.array([usd for usd, _ in rows]), np.array([each for _, each in rows])
    return Coming(starts_us, worth, mw.reshape(len(rows), len(starts_us)))


def _asking(work: pl.DataFrame, now: datetime, starts_us: Ints) -> Floats:
    """Mean GPUs [h] of what asks now and lasts as long as it is said to; of the running hour what is left of it."""
    begins_s = np.maximum((starts_us - microseconds(now)) / _US, 0.0)
    ends_s = (starts_us + HOUR_US - microseconds(now)) / _US
    return lasting(work["left_s"].to_numpy(), work["gpus"].to_numpy().astype(float), begins_s, ends_s - begins_s)


def _by_class(work: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    for kind in GPU_WORK:
        yield kind.value, work.filter(pl.col("type") == kind.value)


def _types(kind: WorkloadType, work: pl.DataFrame, places: Sequence[Place]) -> dict[str, float]:
    """Shares of the GPUs that a class asks for by their type; where no place takes any, those of all GPUs that take it."""
    by_type = {
        name: gpus
        for name, gpus in _of_work(work.filter(pl.col("type") == kind.value))
        if any(place.takes(kind, name, None) for place in places)
    } or _of_places(kind, places)
    whole = sum(by_type.values())
    return {name: gpus / whole for name, gpus in sorted(by_type.items())} if whole else {}


def _of_work(work: pl.DataFrame) -> Iterator[tuple[str, float]]:
    return work.group_by("gpu_type").agg(pl.col("gpus").sum().cast(pl.Float64)).iter_rows()


def _of_places(kind: WorkloadType, places: Sequence[Place]) -> dict[str, float]:
    found: dict[str, float] = {}
    for place in places:
        name = place.group.gpu_type
        if place.takes(kind, name, None):
            found[name] = found.get(name, 0.0) + place.group.devices
    return found
