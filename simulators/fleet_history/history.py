"""The table: a row an hour, facility and group, by the columns that the platform has of its own fleet (docs/data.md)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simulators.fault_log import FaultLog
from simulators.fault_schedule import FaultSchedule
from simulators.fleet_history import heat_waves
from simulators.fleet_history.outages import HOUR_S, Outages
from simulators.fleet_history.use import Use
from simulators.power import PowerGenerator
from simulators.replay import Recording, Series, load_recording
from simulators.script import Script
from simulators.settings import SiteConfig
from simulators.streams import FloatArray, IntArray
from simulators.weather import Weather

if TYPE_CHECKING:
    import polars as pl

_QUARTER_S = 900
_FETCHED_AFTER_MINUTES = 20  # a day of weather is fetched once it is over, as the platform does it
HOME_OF_RECORDS = "HB_HOUSTON"  # recorded weather is its own; the other points keep what is generated


class _Around(NamedTuple):
    """A point's script, its temperatures and prices by hour, and when its heat waves were."""

    script: Script
    outdoor_c: FloatArray
    waves: list[tuple[float, float]]
    prices: FloatArray


@dataclass(frozen=True)
class Past:
    """What the history is a function of. `folder`: recorded weather, prices and faults, where it has any of the span."""

    sites: tuple[SiteConfig, ...]
    start_s: int
    end_s: int
    seed: int
    folder: Path | None = None

    @cached_property
    def _around(self) -> "dict[str, _Around]":
        return {}

    @cached_property
    def starts_s(self) -> IntArray:
        """The beginning of each hour."""
        return np.arange(self.start_s, self.end_s, HOUR_S, dtype=np.int64)

    @cached_property
    def recording(self) -> Recording:
        """What the folder has."""
        return load_recording(self.folder) if self.folder else Recording()

    @cached_property
    def fault_log(self) -> FaultLog | None:
        """Recorded faults of GPU servers, which then stand for those of the hazards' table."""
        return FaultLog.below(self.folder) if self.folder else None

    def rows(self) -> "Iterator[pl.DataFrame]":
        """The rows of one facility after the other."""
        for number, config in enumerate(self.sites):
            yield self._of(number, config)

    def _of(self, number: int, config: SiteConfig) -> "pl.DataFrame":
        import polars as pl

        script, outdoor_c, waves, prices = self._at(config.settlement_point)
        schedule = FaultSchedule(config, number, self.seed, script, self.fault_log)
        hours = Outages(config, schedule, self.seed).between(self.start_s, self.end_s, outdoor_c)
        use = Use(config.site, self.seed, self.starts_s, prices)
        instants = pl.Series(self.starts_s * 1_000_000).cast(pl.Datetime("us", "UTC"))
        frames = []
        for place, group in enumerate(config.groups):
            available_h = hours.available_h[:, place]
            told: dict[str, Any] = {
                "start_at": instants, "facility_id": config.site, "group_id": group.group, "type": group.kind,
                "installed": np.full(len(instants), group.devices, dtype=np.int32), "available_h": available_h,
                "in_use_h": use.hours(group, available_h), "failures": hours.failures[:, place].astype(np.int32),
                "hottest_celsius": hours.hottest_c[:, place], "outdoor_celsius": outdoor_c, "price_usd_per_mwh": prices,
                "is_heat_wave": _inside(waves, self.starts_s),
            }  # fmt: skip
            frames.append(
                pl.DataFrame(told).with_columns(
                    known_at=pl.col("start_at") + pl.duration(hours=1),
                    outdoor_known_at=pl.col("start_at").dt.truncate("1d")
                    + pl.duration(days=1, minutes=_FETCHED_AFTER_MINUTES),
                )
            )
        return pl.concat(frames)

    def _at(self, point: str) -> "_Around":
        """What is the same for all facilities at a point: made once."""
        if point not in self._around:
            script, outdoor_c, waves = self._weather(point)
            self._around[point] = _Around(script, outdoor_c, waves, self._prices(point, script))
        return self._around[point]

    def _weather(self, point: str) -> tuple[Script, FloatArray, list[tuple[float, float]]]:
        """The script of a point's heat waves, its temperatures, and when the waves were."""
        recorded = self._recorded_weather(point)
        if recorded is not None:
            waves = heat_waves.recorded(recorded, self.start_s)
            return heat_waves.script_of(waves, self.start_s, self.end_s, is_recorded=True), recorded, waves
        waves = heat_waves.drawn(self.seed, point, self.start_s, self.end_s)
        script = heat_waves.script_of(waves, self.start_s, self.end_s, is_recorded=False)
        made = heat_waves.temperatures(Weather(self.seed, script), point, self.start_s, self.end_s)
        return script, made, waves

    def _recorded_weather(self, point: str) -> FloatArray | None:
        """The record that covers all of the span and is nearest to the point's climate, where records are of its region."""
        if point != HOME_OF_RECORDS:
            return None
        whole = [series for series in self.recording.temperatures if self._is_whole(series)]
        series = Weather(self.seed, recorded=whole).recorded_for(point)
        return None if series is None else series.lookup(self.starts_s)[0]

    def _is_whole(self, series: Series) -> bool:
        return bool(series.lookup(self.starts_s)[1].all())

    def _prices(self, point: str, script: Script) -> FloatArray:
        """Mean real-time price of each hour: recorded where it is, else generated."""
        quarters = (self.starts_s[:, None] + np.arange(0, HOUR_S, _QUARTER_S)).ravel()
        values = np.full(len(quarters), np.nan)
        for series in self.recording.rt.get(point, []):
            found, is_there = series.lookup(quarters)
            values = np.where(np.isnan(values) & is_there, found, values)
        missing = np.isnan(values)
        if missing.any():
            values[missing] = PowerGenerator(self.seed, script.scenario, script.origin_s).lmp(point, quarters[missing])
        return np.asarray(values.reshape(-1, HOUR_S // _QUARTER_S).mean(axis=1))


def _inside(spans: list[tuple[float, float]], starts_s: IntArray) -> np.ndarray:
    """Which hours begin within a span."""
    found = np.zeros(len(starts_s), dtype=np.bool_)
    for from_s, until_s in spans:
        found |= (starts_s >= from_s) & (starts_s < until_s)
    return found
