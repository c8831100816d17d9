"""Which files a back-test reads: found in a folder by their columns, whatever they are called, or named one by one.

Nothing is copied. Checks are in `series.py`.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.hours import MICROSECONDS_PER_MINUTE, instant
from hcp_pipelines.optimizer.backtest import series
from hcp_pipelines.optimizer.backtest.series import (
    DAY_AHEAD,
    HASHPRICE,
    POINT,
    REAL_TIME,
    START,
    Floats,
    Prices,
    SeriesError,
)


@dataclass(frozen=True)
class Sources:
    """Where the series are: a folder, and files that go before what is found in it.

    `named` are those of demand, reserves and weather, which are told apart by their columns, too.
    """

    folder: Path | None
    rt: Path | None = None
    da: Path | None = None
    network: Path | None = None
    point: str = "HB_HUBAVG"
    hold_gaps: bool = False
    named: tuple[Path, ...] = ()
    btc: Path | None = None


@dataclass(frozen=True)
class Recorded:
    """The series of a back-test: prices with their history, the day-ahead price of each interval, hashprice by day."""

    prices: Prices
    day_ahead: Floats
    hashprice: dict[date, float]
    files: dict[str, str]


def load(sources: Sources, start: datetime, end: datetime) -> Recorded:
    """The series of a point that cover [start, end).

    Raises:
        SeriesError: a file is missing or wrong, or the prices don't cover the window.
    """
    rt_file, da_file, prices, day_ahead = load_prices(sources, start, end)
    files = {"rt": rt_file.name} | ({"da": da_file.name} if da_file else {})
    if sources.btc is None:
        network_file = sources.network or first(sources, "--network FILE", (series.DAY, HASHPRICE))
        network = series.read_columns(network_file, (series.DAY, HASHPRICE))
    else:
        network_file = sources.network or first(sources, "--network FILE", (series.DAY, *series.NETWORK))
        network = series.hashprice_at(
            series.read_columns(network_file, (series.DAY, *series.NETWORK)),
            series.read_columns(sources.btc, (START, series.BITCOIN)),
        )
        files["btc"] = sources.btc.name
    by_day = series.daily_hashprice(network, network_file.name)
    return Recorded(prices, day_ahead, by_day, files | {"network": network_file.name})


def load_prices(sources: Sources, start: datetime, end: datetime) -> tuple[Path, Path | None, Prices, Floats]:
    """The files of a point's real-time and day-ahead prices, and both by interval, with their history before the window.

    Raises:
        SeriesError: a file is missing or wrong, or the prices don't cover the window.
    """
    rt_file, prices = _real_time(sources, start, end)
    da_file, day_ahead = _day_ahead(sources, prices)
    return rt_file, da_file, prices, day_ahead


def elsewhere(sources: Sources, own: Prices, end: datetime) -> list[tuple[Prices, Floats]]:
    """Stretches without long gaps before an instant, of the granularity of `own`, with their day-ahead prices.

    Those of other points, and those of its own that end before `own` starts.

    What is wrong in them is left out: they only add to what is learnt from.
    """
    found: list[Prices] = []
    files = {
        *files_with(sources, (START, REAL_TIME, POINT)),
        *([sources.rt] if sources.rt and POINT in _columns(sources.rt) else []),
    }
    for file in sorted(files):
        frame = series.read_columns(file, (START, POINT, REAL_TIME)).filter(pl.col(START) < end)
        for (point,), rows in frame.sort(START).group_by([POINT], maintain_order=True):
            found_here = stretches(rows, str(point), file.name, own.step_minutes)
            found += [s for s in found_here if point != own.point or s.starts_us[-1] < own.starts_us[0]]
    return [(prices, _day_ahead(sources, prices)[1]) for prices in found]


def stretches(rows: pl.DataFrame, point: str, name: str, step_minutes: int) -> list[Prices]:
    """The stretches without long gaps in a point's rows, in order, of one granularity; wrong rows are as if missing."""
    gap = pl.col(START).diff() > series.LONGEST_HELD_GAP + timedelta(minutes=step_minutes)
    parts = (
        series.plausible(rows)
        .with_columns(_part=gap.fill_null(value=False).cum_sum())
        .partition_by("_part", include_key=False)
    )
    found = []
    for part in parts:
        try:
            prices = series.prices_of(part, point, name, hold_gaps=True)
        except SeriesError:
            continue
        if prices.step_minutes == step_minutes:
            found.append(prices)
    return found


def _real_time(sources: Sources, start: datetime, end: datetime) -> tuple[Path, Prices]:
    """The finest series of the point that covers the window; what it lacks or has wrong inside the window is refused."""
    seen: list[_Candidate] = []
    for file in [sources.rt] if sources.rt else files_with(sources, (START, REAL_TIME)):
        rows = _rows_of(file, sources.point, REAL_TIME).filter(pl.col(START).is_null() | (pl.col(START) < end))
        if len(rows) > 1:
            seen.append(_Candidate.of(file, rows))
    covering = [s for s in seen if s.first <= start and s.last >= end - timedelta(minutes=s.step_minutes)]
    if not covering:
        there = "; ".join(f"{s.file.name} has {s.first} to {s.last}" for s in seen)
        raise SeriesError(
            f"no {REAL_TIME} of {sources.point} over {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}: "
            f"{there or 'no file has that point'}. Give --rt FILE, --point NAME or another window."
        )
    best = min(covering, key=lambda s: (s.step_minutes, s.file.name))
    return best.file, _with_history(best.rows, start, sources, best.file.name)


@dataclass(frozen=True)
class _Candidate:
    """The rows of the point in one file, numbered as they stand in it."""

    file: Path
    rows: pl.DataFrame
    step_minutes: int
    first: datetime
    last: datetime

    @classmethod
    def of(cls, file: Path, rows: pl.DataFrame) -> "_Candidate":
        """Rows in any order; the step is the commonest one."""
        starts = rows[START].drop_nulls().unique().sort()
        minutes = starts.diff().drop_nulls().dt.total_minutes().to_numpy()
        step = int(np.median(minutes)) if len(minutes) else 1
        return cls(file, rows, step, starts[0], starts[-1])


def _with_history(rows: pl.DataFrame, start: datetime, sources: Sources, name: str) -> Prices:
    """The window's prices, checked, after the stretch without long gaps that leads up to it."""
    inside = rows.filter(pl.col(START).is_null() | (pl.col(START) >= start))
    window = series.prices_of(inside, sources.point, name, hold_gaps=sources.hold_gaps)
    if instant(int(window.starts_us[0])) != start:
        raise SeriesError(
            f"{name}: the window starts at {start:%Y-%m-%dT%H:%MZ}, "
            f"its first price is of {instant(int(window.starts_us[0]))}"
        )
    earlier = rows.filter(pl.col(START) < start).sort(START)
    before = stretches(earlier, sources.point, name, window.step_minutes)
    step_us = window.step_minutes * MICROSECONDS_PER_MINUTE
    if not before or before[-1].starts_us[-1] + step_us != window.starts_us[0]:
        return window
    past = before[-1]
    return replace(
        window,
        starts_us=np.r_[past.starts_us, window.starts_us],
        usd_per_mwh=np.r_[past.usd_per_mwh, window.usd_per_mwh],
        left_out=len(earlier) - len(series.plausible(earlier)),
    )


def _rows_of(file: Path, point: str, column: str) -> pl.DataFrame:
    """The rows of one point, numbered as they stand in the file; a file without points is all of one."""
    has_points = POINT in series.scan(file).collect_schema().names()
    rows = series.read_columns(file, (START, column, POINT) if has_points else (START, column)).with_row_index("row")
    return rows.filter(pl.col(POINT) == point) if has_points else rows


def _day_ahead(sources: Sources, prices: Prices) -> tuple[Path | None, Floats]:
    """The day-ahead price of each interval, NaN where none is recorded, or an absurd one, or two that contradict each other."""
    for file in [sources.da] if sources.da else files_with(sources, (START, DAY_AHEAD)):
        rows = _rows_of(file, prices.point, DAY_AHEAD)
        if len(rows):
            return file, prices.of_their_hours(series.plausible(rows, DAY_AHEAD).select(START, DAY_AHEAD))
    return None, np.full(len(prices.starts_us), np.nan)


def files_with(sources: Sources, columns: tuple[str, ...]) -> list[Path]:
    """Files that have the columns: those that are named, then those of the folder by name."""
    files = list(sources.named)
    if sources.folder is not None:
        if not sources.folder.is_dir():
            raise SeriesError(f"--prices {sources.folder}: no such folder")
        files += sorted(f for kind in ("*.parquet", "*.csv") for f in sources.folder.rglob(kind))
    return [f for f in files if set(columns) <= set(_columns(f))]


def named(option: str, file: Path, *kinds: tuple[str, ...]) -> Path:
    """The file, which has the columns of one of these kinds.

    Raises:
        SeriesError: it has not, so that it would not be read.
    """
    columns = set(_columns(file))
    if not any({START, *kind} <= columns for kind in kinds):
        wanted = ", or ".join(" and ".join((START, *kind)) for kind in kinds)
        raise SeriesError(f"{option} {file}: no columns {wanted}. Name the file that has them, or mend it.")
    return file


def _columns(file: Path) -> list[str]:
    try:
        return series.scan(file).collect_schema().names()
    except (OSError, pl.exceptions.PolarsError):
        return []


def first(sources: Sources, option: str, columns: tuple[str, ...]) -> Path:
    """The first file of the folder that has the columns; `option` says in the error what to give.

    Raises:
        SeriesError: there is none.
    """
    files = files_with(sources, columns)
    if not files:
        place = "is named" if sources.folder is None else f"in {sources.folder}"
        raise SeriesError(f"no file with {' and '.join(columns)} {place}. Give {option}.")
    return files[0]
