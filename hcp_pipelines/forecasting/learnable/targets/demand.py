"""GPUs asked for, by class of work, as a target: the mean of each of the next 72 hours, asked as an hour begins.

Work asks from when it is submitted until it ends, whether it runs or waits. What is learnt is the distance to what is asked for
now, by what the class has asked for lately; the naive forecast is the same hour's of the last day that is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.horizon_features import last_same_hour
from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints, microseconds
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import Learning
from hcp_pipelines.forecasting.learnable.models import BoostedTrees, Forest, Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.protocol import LAST, Examples, Model

CHANGES = "core.hcp__gpu_demand_changes"
COLUMNS: Mapping[str, pl.DataType] = {
    "demand_class": pl.String(),
    "gpus": pl.Float64(),
    "began_at": INSTANT,
    "known_at": INSTANT,
}  # + as work is submitted, − as it ends; `began_at`: when that work was submitted
TOTAL = "total"  # of all classes: an entity too
LONGEST_AHEAD_H = 72
MEANS_H, OLDER_H, ARRIVALS_H = (1, 6, 24, 168), (1, 6, 24, 168), (1, 6, 24)
LEAST_SCALE_GPUS = 1.0
FADING, HALF_LIFE_H = "fading", 48.0  # what is asked for now fades into the mean of the last week
FRAMING = Framing(FADING, lowest=0.0)
LEARNING = Learning(least_days=14, held_days=7)


@dataclass(frozen=True)
class Steps:
    """Changes of a level as they came: `after[n]` is the level after n of them, `area[n]` what lies below it until then."""

    at_us: Ints
    after: Floats
    area: Floats

    @classmethod
    def of(cls, at_us: Ints, by: Floats) -> Self:
        """Steps of changes in any order."""
        order = np.argsort(at_us, kind="stable")
        at, after = at_us[order], np.cumsum(by[order])
        widths = np.diff(at, prepend=at[:1]).astype(np.float64)
        return cls(at, np.r_[0.0, after], np.r_[0.0, np.cumsum(np.r_[0.0, after[:-1]] * widths)])

    def level(self, us: Ints) -> Floats:
        """At some instants."""
        found: Floats = self.after[np.searchsorted(self.at_us, us, side="right")]
        return found

    def mean(self, begin_us: Ints, end_us: Ints) -> Floats:
        """Between instants."""
        found: Floats = (self._area(end_us) - self._area(begin_us)) / (end_us - begin_us)
        return found

    def _area(self, us: Ints) -> Floats:
        if not len(self.at_us):
            return np.zeros(len(us))
        n = np.searchsorted(self.at_us, us, side="right")
        since = us - self.at_us[np.maximum(n - 1, 0)]
        return self.area[n] + np.where(n > 0, self.after[n] * since, 0.0)


@dataclass(frozen=True)
class ClassDemand:
    """What a class asks for: the level, what of it is older than some hours, and what came in."""

    level: Steps
    older: Mapping[int, Steps]
    came: Steps

    @classmethod
    def of(cls, began_us: Ints, known_us: Ints, gpus: Floats) -> Self:
        """Of changes; a piece of work counts as older once it has asked so long, until it ends."""
        older = {hours: Steps.of(np.maximum(known_us, began_us + hours * HOUR_US), gpus) for hours in OLDER_H}
        is_new = gpus > 0
        return cls(Steps.of(known_us, gpus), older, Steps.of(known_us[is_new], gpus[is_new]))


@dataclass(frozen=True)
class DemandTarget:
    """As `Target`; entities are classes, and the total."""

    name: str = "demand"
    unit: str = "GPUs"
    tables: Sequence[str] = (CHANGES,)
    models: Sequence[Model] = field(
        default=(
            SeasonalNaive(Framing(lowest=0.0)), Naive(Framing(LAST, lowest=0.0)),
            Forest(FRAMING, LEARNING, leaves=16, least_in_leaf=1000),
            BoostedTrees(FRAMING, LEARNING, trees=60, learning_rate=0.04, leaves=4, least_in_leaf=1500),
            SeasonalNaive(FRAMING, name=FADING),
        )
    )  # fmt: skip
    every_h: int = 5  # no divisor of 24, so that every hour of the day is among those asked

    def examples(
        self, tables: Mapping[str, Any], window: tuple[datetime, datetime], groups: Sequence[str] = ()
    ) -> Examples:
        """As `Target`.

        Raises:
            ConfigError: no work is known, none of a class, or the window lies before all of it.
        """
        changes = _paired(tables[CHANGES])
        by_class = {str(name): rows for (name,), rows in changes.group_by("demand_class")}
        entities = {name: by_class[name] for name in sorted(by_class)} | {TOTAL: changes}
        if unknown := [name for name in groups if name not in entities]:
            raise ConfigError(f"{', '.join(unknown)}: no such class of work; there are {', '.join(entities)}")
        first, last = int(_us(changes).min()), int(_us(tables[CHANGES]).max())
        asked = np.arange(_hour(max(microseconds(window[0]), first)), _hour(microseconds(window[1])), self.every_h)
        if not len(asked):
            raise ConfigError(f"no work is known before {window[1]:%Y-%m-%dT%H:%MZ}: the first came later")
        names = tuple(groups) or tuple(entities)
        parts = [_questions(_demand(entities[name]), asked, first, last) for name in names]
        return _examples(parts, names)


def _paired(changes: pl.DataFrame) -> pl.DataFrame:
    """Changes without ends of work whose beginning lies before the table's."""
    known = changes.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items()).drop_nulls()
    known = known.filter(pl.col("began_at") >= pl.col("known_at").min())
    if known.is_empty():
        raise ConfigError(f"{CHANGES} has no work yet: nothing was submitted in the time that was read")
    return known


def _us(rows: pl.DataFrame, column: str = "known_at") -> Ints:
    found: Ints = rows[column].cast(INSTANT).cast(pl.Int64).to_numpy()
    return found


def _hour(us: int) -> int:
    """The first whole hour since 1970 that is not before an instant."""
    return -(-us // HOUR_US)


def _demand(rows: pl.DataFrame) -> ClassDemand:
    return ClassDemand.of(_us(rows, "began_at"), _us(rows), rows["gpus"].to_numpy())


def _questions(demand: ClassDemand, asked_h: Ints, first_us: int, last_us: int) -> dict[str, Floats]:
    """Features and what is beside them, a row an hour asked and one of the 72 from it on; hours are whole since 1970."""
    asked = np.repeat(asked_h, LONGEST_AHEAD_H)
    wanted = asked + np.tile(np.arange(LONGEST_AHEAD_H), len(asked_h))
    level = demand.level

    def hour(rows: Ints) -> Floats:
        """The mean of whole hours, NaN before the first that is known."""
        begin = rows * HOUR_US
        return np.where(begin >= first_us, level.mean(begin, begin + HOUR_US), np.nan)

    now = np.repeat(_at_hours(demand, asked_h, first_us), LONGEST_AHEAD_H, axis=1)
    last, scale = now[0], np.maximum(np.nan_to_num(now[1]), LEAST_SCALE_GPUS)
    naive = hour(last_same_hour(asked, wanted))
    week = np.stack([hour(last_same_hour(asked, wanted) - 24 * day) for day in range(7)])
    there = np.isfinite(week)
    week_mean = np.where(
        there.any(axis=0), np.where(there, week, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1), np.nan
    )
    relative = {"lag_day": naive, "lag_week": hour(wanted - 168), "week_mean": week_mean}
    columns = {name: (values - last) / scale for name, values in relative.items()}
    columns |= dict(zip(AT_HOURS, (now[2:] - np.where(IS_LEVEL, last, 0.0)) / scale, strict=True))
    columns |= {
        FADING: now[1] + (last - now[1]) * 0.5 ** ((wanted - asked + 1) / HALF_LIFE_H), LAST: last,
        "size": np.log(scale), "ahead_h": wanted - asked + 1.0, "hour": wanted % 24.0,
        "weekday": (wanted // 24 + 3) % 7.0, "hour_asked": asked % 24.0,
    }  # fmt: skip
    came_to = np.where((wanted + 1) * HOUR_US <= last_us, hour(wanted), np.nan)
    return columns | {"~asked": asked, "~wanted": wanted, "~target": came_to, "~naive": naive, "~scale": scale}


AT_HOURS = (
    *(f"mean_{hours}h" for hours in MEANS_H), "max_24h", "min_24h",
    *(f"older_{hours}h" for hours in OLDER_H), *(f"came_{hours}h" for hours in ARRIVALS_H),
)  # fmt: skip
IS_LEVEL = np.array([name.startswith(("mean", "max", "min")) for name in AT_HOURS])[
    :, None
]  # beside what is asked for now


def _at_hours(demand: ClassDemand, asked_h: Ints, first_us: int) -> Floats:
    """`[feature, hour asked]`: what is asked for now, the mean of a week or of as long as is known, and `AT_HOURS`."""
    at = asked_h * HOUR_US

    def mean(hours: int) -> Floats:
        begin = at - hours * HOUR_US
        return np.where(begin >= first_us, demand.level.mean(begin, at), np.nan)

    since = np.maximum(at - 168 * HOUR_US, np.minimum(first_us, at - HOUR_US))
    day = np.stack([demand.level.mean(at - (n + 1) * HOUR_US, at - n * HOUR_US) for n in range(24)])
    day = np.where(at - 24 * HOUR_US >= first_us, day, np.nan)
    came = [demand.came.level(at) - demand.came.level(at - hours * HOUR_US) for hours in ARRIVALS_H]
    return np.stack(
        [
            demand.level.level(at), demand.level.mean(since, at), *(mean(hours) for hours in MEANS_H), day.max(axis=0),
            day.min(axis=0), *(demand.older[hours].level(at) for hours in OLDER_H), *came,
        ]
    )  # fmt: skip


def _examples(parts: Sequence[Mapping[str, Floats]], entities: tuple[str, ...]) -> Examples:
    """Of all entities, in the order in which they were asked."""
    whole = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    names = tuple(name for name in whole if not name.startswith("~"))
    asked, wanted = (whole[name].astype(np.int64) * HOUR_US for name in ("~asked", "~wanted"))
    entity = np.repeat(np.arange(len(parts)), [len(each["~asked"]) for each in parts])
    features = np.column_stack([whole[name] for name in names]).astype(np.float32)
    examples = Examples(
        features, names, whole["~target"], entity, entities, asked, wanted, wanted + HOUR_US, whole["~naive"],
        whole["~scale"],
    )  # fmt: skip
    return examples.only(np.lexsort((wanted, entity, asked)))


DEMAND = DemandTarget()
