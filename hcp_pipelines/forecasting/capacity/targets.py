"""Three targets over the fleet's days: available device-hours, failures, and use. All are asked at UTC midnights.

The seasonal naive forecast of a day is the same weekday's of the newest week that was known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity import features
from hcp_pipelines.forecasting.capacity.fleet_days import DAY_US, TABLE, FleetDays, by_group, by_type, midnights, only
from hcp_pipelines.forecasting.hours import Floats, Ints, instant
from hcp_pipelines.forecasting.learnable.framing import NAIVE_ANCHOR, Framing
from hcp_pipelines.forecasting.learnable.models import BoostedTrees, Forest, Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.protocol import LAST, Examples, Model

HISTORY = timedelta(days=features.MONTH)  # before the first question: what features look back on
WEEKS_BACK = 5
_KIND = "is_gpu"  # miners' use hardly moves, GPUs' does: each is calibrated apart
_LAST, _WEEK_AGO, _LEVEL = (Framing(anchor, lowest=0.0, highest=1.0) for anchor in (LAST, NAIVE_ANCHOR, "use_level"))


@dataclass(frozen=True)
class FleetTarget:
    """One of them.

    Attributes:
        name, unit: as `Target`.
        ahead_days: the days asked about: 1 is the one that begins as it is asked.
        entity: hours to days of groups, or of types.
        value: what a day came to, `[entity, day]`, per unit of the scale.
        scale: `[entity, asked]` what the target is measured by.
        models: as `Target`.
        parts: features beside the calendar.
    """

    name: str
    unit: str
    ahead_days: tuple[int, ...]
    entity: Callable[[pl.DataFrame], FleetDays]
    value: Callable[[FleetDays], Floats]
    scale: Callable[[FleetDays, Ints], Floats]
    models: Sequence[Model]
    parts: tuple[Callable[[FleetDays, Ints], dict[str, Floats]], ...] = field(default=(features.health, features.fixed))

    @property
    def tables(self) -> Sequence[str]:
        """As `Target`."""
        return (TABLE,)

    def examples(
        self, tables: Mapping[str, Any], window: tuple[datetime, datetime], groups: Sequence[str] = ()
    ) -> Examples:
        """As `Target`."""
        days = self.entity(tables[TABLE])
        asked_us = midnights(window)
        last_us = days.first_us + days.days * DAY_US
        asked_us = asked_us[(asked_us > days.first_us) & (asked_us <= last_us)]
        if not len(asked_us):
            raise ConfigError(
                f"{TABLE} has days from {instant(days.first_us):%Y-%m-%d} to {instant(last_us):%Y-%m-%d}: "
                f"none is before a midnight from {window[0]:%Y-%m-%dT%H:%MZ} to {window[1]:%Y-%m-%dT%H:%MZ}"
            )
        whole = self._whole(days, asked_us)
        return whole.only(only(days, groups)(whole.entity))

    def _whole(self, days: FleetDays, asked_us: Ints) -> Examples:
        """All entities: questions in the order in which they were asked."""
        shape = (len(asked_us), len(days.entities), len(self.ahead_days))
        at, entity, ahead = (axis.ravel() for axis in np.indices(shape))
        wanted_us = asked_us[at] + (np.array(self.ahead_days)[ahead] - 1) * DAY_US
        scale, value = self.scale(days, asked_us), self.value(days)
        columns = {LAST: days.on(asked_us, value, 1) * scale}
        for part in self.parts:
            columns |= part(days, asked_us)
        flat = {name: column[entity, at] for name, column in columns.items()}
        flat |= features.calendar(wanted_us) | {"ahead_days": np.array(self.ahead_days, dtype=np.float64)[ahead]}
        names, own = tuple(flat), scale[entity, at]
        target, known_us = _came_to(days, value, entity, wanted_us)
        naive = _same_weekday(days, value, asked_us, self.ahead_days)[ahead, entity, at]
        return Examples(
            features=features.stacked(flat, names), names=names, target=target * own, entity=entity, entities=days.entities,
            asked_us=asked_us[at], wanted_us=wanted_us, known_us=known_us, naive=naive * own, scale=own,
        )  # fmt: skip


def _came_to(days: FleetDays, value: Floats, entity: Ints, wanted_us: Ints) -> tuple[Floats, Ints]:
    """What each wanted day came to, and when that was known."""
    day = (wanted_us - days.first_us) // DAY_US
    inside, place = (day >= 0) & (day < days.days), np.clip(day, 0, days.days - 1)
    known_us = np.where(inside, days.known_us[entity, place], wanted_us + DAY_US)
    return np.where(inside, value[entity, place], np.nan), known_us


def _same_weekday(days: FleetDays, value: Floats, asked_us: Ints, ahead_days: Sequence[int]) -> Floats:
    """`[ahead, entity, asked]` the value of the same weekday of the newest week that was known."""
    found = []
    for ahead in ahead_days:
        newest = np.full((len(days.entities), len(asked_us)), np.nan)
        for week in range(WEEKS_BACK, 0, -1):
            back = 7 * week - (ahead - 1)
            if back >= 1:
                earlier = days.on(asked_us, value, back)
                newest = np.where(np.isfinite(earlier), earlier, newest)
        found.append(newest)
    return np.stack(found)


def _device_hours(days: FleetDays, asked_us: Ints) -> Floats:
    return features.installed(days, asked_us) * 24.0


def _ones(days: FleetDays, asked_us: Ints) -> Floats:
    return np.ones((len(days.entities), len(asked_us)))


CAPACITY = FleetTarget(
    name="capacity", unit="device-hours", ahead_days=tuple(range(1, 8)), entity=by_group,
    value=lambda days: days.available, scale=_device_hours,
    models=(Naive(_LAST), SeasonalNaive(_WEEK_AGO), Forest(_LAST), BoostedTrees(_LAST)),
)  # fmt: skip
FAILURE_RISK = FleetTarget(
    name="failure_risk", unit="failures", ahead_days=(1,), entity=by_group,
    value=lambda days: days.failures, scale=_ones,
    models=(Naive(Framing(LAST, lowest=0.0)), SeasonalNaive(Framing(lowest=0.0)), BoostedTrees(Framing("", lowest=0.0))),
)  # fmt: skip
UTILIZATION = FleetTarget(
    name="utilization", unit="share", ahead_days=tuple(range(1, 31)), entity=by_type,
    value=lambda days: days.in_use, scale=_ones, parts=(features.demand, features.health, features.fixed),
    models=(Naive(_LAST), SeasonalNaive(_WEEK_AGO), Forest(_LEVEL, parted_by=_KIND)),
)  # fmt: skip
TARGETS = (CAPACITY, FAILURE_RISK, UTILIZATION)
