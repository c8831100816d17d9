"""Recorded reality: parquet files found by their columns, whatever their names, and looked up by instant.

Real prices are served as they are, however odd. What is not recorded is for the generator to fill (`series`).
Polars is imported here only, since it costs start-up time and memory that a generated world doesn't need.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulators.bitcoin import HOUR_S, Block, Candle, subsidy_sat
from simulators.settings import WorldConfigError
from simulators.streams import DAY_S, BoolArray, FloatArray, IntArray, stream
from simulators.system import RESERVES, ZONES

if TYPE_CHECKING:
    import polars as pl

START = "interval_start_utc"
RT = "rt_price_usd_per_mwh"
DA = "da_price_usd_per_mwh"
TEMPERATURE = "temperature_c"
MCPC, ZONE_LOAD = "{}_mcpc_usd_per_mw_h", "{}_load_mw"
_CANDLE = ("open_usdt", "high_usdt", "low_usdt", "close_usdt", "volume_btc")
_NETWORK = ("date_utc", "block_count", "total_fees_btc", "difficulty")


@dataclass(slots=True)
class Series:
    """One recorded series: starts (Unix seconds, rising), values, and the length of an interval."""

    starts_s: IntArray
    values: FloatArray
    step_s: int

    def lookup(self, instants_s: IntArray) -> tuple[FloatArray, BoolArray]:
        """Value of the interval that covers each instant, and whether there is one."""
        wanted = instants_s - instants_s % self.step_s
        index = np.searchsorted(self.starts_s, wanted)
        found = np.zeros(len(wanted), dtype=np.bool_)
        inside = index < len(self.starts_s)
        found[inside] = self.starts_s[index[inside]] == wanted[inside]
        values = np.full(len(wanted), np.nan)
        values[found] = self.values[index[found]]
        return values, found

    @property
    def gaps(self) -> int:
        """Intervals missing between the first and the last."""
        return int((self.starts_s[-1] - self.starts_s[0]) // self.step_s + 1 - len(self.starts_s))


class NetworkDay(NamedTuple):
    """A recorded UTC day of the bitcoin network."""

    first_height: int
    block_count: int
    fees_btc: float
    difficulty: float


@dataclass(slots=True)
class Recording:
    """Everything found in a replay directory."""

    rt: dict[str, list[Series]] = field(default_factory=dict)
    da: dict[str, list[Series]] = field(default_factory=dict)
    candles: dict[int, Candle] = field(default_factory=dict)
    days: dict[int, NetworkDay] = field(default_factory=dict)
    temperatures: list[Series] = field(default_factory=list)
    reserves: dict[str, list[Series]] = field(default_factory=dict)
    loads: dict[str, list[Series]] = field(default_factory=dict)

    def first_instant_s(self, points: list[str]) -> int:
        """The latest first row among the power series of these points, bitcoin and the network."""
        firsts = [min(int(series.starts_s[0]) for series in self.rt[point]) for point in points if point in self.rt]
        if self.candles:
            firsts.append(min(self.candles))
        if self.days:
            firsts.append(min(self.days) * DAY_S)
        if not firsts:
            message = "the replay directory has no power, bitcoin or network series; see docs/world.md for the columns"
            raise WorldConfigError(message)
        return max(firsts)

    def blocks_of_day(self, seed: int, day: int) -> list[Block]:
        """The recorded day's blocks: its count, fees and difficulty spread over seeded instants."""
        known = self.days[day]
        draw = stream(seed, "replay.blocks", day)
        times = np.floor(np.sort(draw.random(known.block_count)) * DAY_S) + day * DAY_S
        weights = draw.lognormal(0.0, 0.5, known.block_count)
        fees = np.floor(known.fees_btc * 1e8 * weights / weights.sum())
        return [
            Block(known.first_height + index, float(times[index]), known.difficulty, int(fees[index]))
            for index in range(known.block_count)
        ]


def load_recording(directory: Path) -> Recording:
    """Read every parquet file below a directory whose columns are known; others are passed over.

    Raises:
        WorldConfigError: the directory is missing or holds no parquet file.
    """
    import polars as pl

    files = sorted(directory.rglob("*.parquet"))
    if not files:
        message = f"replay directory {directory}: no parquet file below it; check the path (docs/world.md)"
        raise WorldConfigError(message)
    schemas = {path: set(pl.read_parquet_schema(path)) for path in files}
    recording = Recording()
    _load_power(recording.rt, [path for path in files if {START, RT, "settlement_point"} <= schemas[path]], RT)
    # A file of day-ahead prices alone goes before one that carries both markets.
    both = [path for path in files if {START, DA, "settlement_point"} <= schemas[path]]
    _load_power(recording.da, sorted(both, key=lambda path: RT in schemas[path]), DA)
    recording.temperatures += _temperatures([path for path in files if {START, TEMPERATURE} <= schemas[path]])
    for into, names, column in ((recording.reserves, RESERVES, MCPC), (recording.loads, ZONES, ZONE_LOAD)):
        wanted = {name: column.format(name) for name in names}
        _load_hourly(into, [path for path in files if {START, *wanted.values()} <= schemas[path]], wanted)
    _load_candles(recording, [path for path in files if {START, *_CANDLE} <= schemas[path]])
    _load_network(
        recording,
        [path for path in files if set(_NETWORK) <= schemas[path]],
        [path for path in files if {"date_utc", "blocks_per_day", "last_height"} <= schemas[path]],
    )
    return recording


def _load_power(into: dict[str, list[Series]], files: list[Path], column: str) -> None:
    import polars as pl

    for path in files:
        frame = pl.read_parquet(path, columns=[START, "settlement_point", column]).drop_nulls()
        frame = frame.filter(pl.col(column).is_finite())
        for part in frame.partition_by("settlement_point"):
            point = str(part["settlement_point"][0])
            ordered = part.unique(START, keep="first").sort(START)
            starts_s = _epoch(ordered[START])
            if len(starts_s) > 1:
                step_s = int(np.median(np.diff(starts_s)))
                into.setdefault(point, []).append(Series(starts_s, ordered[column].to_numpy().astype(float), step_s))
    for series in into.values():
        series.sort(key=lambda one: one.step_s)


def _temperatures(files: list[Path]) -> list[Series]:
    """Hourly outdoor temperatures, one series a file; which place each is for, `weather` finds out."""
    import polars as pl

    return [series for path in files if (series := _hourly(pl.read_parquet(path), TEMPERATURE)) is not None]


def _load_hourly(into: dict[str, list[Series]], files: list[Path], columns: dict[str, str]) -> None:
    """Series by name of files that have a column for each, hours only."""
    import polars as pl

    for path in files:
        frame = pl.read_parquet(path, columns=[START, *columns.values()])
        for name, column in columns.items():
            if (series := _hourly(frame, column)) is not None:
                into.setdefault(name, []).append(series)


def _hourly(frame: "pl.DataFrame", column: str) -> Series | None:
    """The series of a column; None where its rows are not hours."""
    import polars as pl

    known = frame.select(START, column).drop_nulls().filter(pl.col(column).is_finite())
    ordered = known.unique(START, keep="first").sort(START)
    starts_s = _epoch(ordered[START])
    if len(starts_s) < 2 or int(np.median(np.diff(starts_s))) != HOUR_S:
        return None
    return Series(starts_s, ordered[column].to_numpy().astype(float), HOUR_S)


def _epoch(column: "pl.Series") -> IntArray:
    return column.dt.epoch("s").to_numpy().astype(np.int64)


def _load_candles(recording: Recording, files: list[Path]) -> None:
    """Hourly candles; of several files the one quoted in the finest price steps (spot before perpetual)."""
    import polars as pl

    frames = [pl.read_parquet(path, columns=[START, *_CANDLE]).drop_nulls().sort(START) for path in files]
    frames = [frame for frame in frames if frame.height]
    if not frames:
        return
    frame = min(
        frames, key=lambda one: one.filter(pl.col("close_usdt").round(1) == pl.col("close_usdt")).height / one.height
    )
    rows = zip(_epoch(frame[START]).tolist(), *(frame[name].to_list() for name in _CANDLE), strict=True)
    for start_s, open_, high, low, close, volume in rows:
        recording.candles.setdefault(start_s, Candle(start_s, low, high, open_, close, volume))


def _load_network(recording: Recording, files: list[Path], height_files: list[Path]) -> None:
    import polars as pl

    heights: dict[int, int] = {}
    for path in height_files:
        frame = pl.read_parquet(path, columns=["date_utc", "last_height"]).drop_nulls()
        heights |= dict(zip((_epoch(frame["date_utc"]) // DAY_S).tolist(), frame["last_height"].to_list(), strict=True))
    for path in files:
        frame = pl.read_parquet(path, columns=list(_NETWORK)).drop_nulls().sort("date_utc")
        days = (_epoch(frame["date_utc"]) // DAY_S).tolist()
        last = None
        for day, row in zip(days, frame.iter_rows(named=True), strict=True):
            count = int(row["block_count"])
            last = heights.get(day, (last if last is not None else _height_before(day)) + count)
            first = last - count + 1
            recording.days.setdefault(day, NetworkDay(first, count, row["total_fees_btc"], row["difficulty"]))


def _height_before(day: int) -> int:
    """A height to count from where none is recorded: 144 blocks a day to or from 2025-01-01 (877,258)."""
    height = 877_258 + (day - 20_089) * 144
    if subsidy_sat(height) <= 0:
        message = f"no block height can be guessed for day {day}"
        raise WorldConfigError(message)
    return height
