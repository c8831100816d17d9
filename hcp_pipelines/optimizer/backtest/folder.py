"""Which files a back-test reads: found in a folder by their columns, whatever they are called, or named one by one.

A series may be in several files: what is told of an instant is the first one's. Nothing is copied. Checks are in `series.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import isclose
from pathlib import Path

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.forecasting.hours import instant
from hcp_pipelines.optimizer.backtest import covering, series
from hcp_pipelines.optimizer.backtest.covering import points_of, rows_of, stretches, told
from hcp_pipelines.optimizer.backtest.reading import NAMES, column_names, read_columns
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

CRUMB_USD_PER_MWH = 1e-6  # of a mean that is computed in another order


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
    """The series of a back-test: prices with their history, the day-ahead price of each interval, hashprice by day.

    `files` by kind of series; `notes` are what a reader must know of them.
    """

    prices: Prices
    day_ahead: Floats
    hashprice: dict[date, float]
    files: dict[str, str]
    notes: tuple[str, ...] = ()

    def hashprice_holes(self, until: datetime) -> int:
        """Days without hashprice between its first one and an instant's, of those that there are prices of."""
        first = max(min(self.hashprice), instant(int(self.prices.starts_us[0])).date())
        return sum(first + timedelta(days=n) not in self.hashprice for n in range((until.date() - first).days))


@dataclass(frozen=True)
class PointPrices:
    """Real-time and day-ahead prices of a point by interval, with their history before the window."""

    prices: Prices
    day_ahead: Floats
    files: dict[str, str]
    notes: tuple[str, ...]


def load(sources: Sources, start: datetime, end: datetime) -> Recorded:
    """The series of a point that cover [start, end).

    Raises:
        SeriesError: a file is missing or wrong, or the prices don't cover the window.
    """
    of_point = load_prices(sources, start, end)
    by_day, files, other = _hashprice(sources)
    unread = _unread(_folder_files(sources))
    notes = (*of_point.notes, *other, *([f"can't be read, and left out: {told(unread)}"] if unread else []))
    return Recorded(of_point.prices, of_point.day_ahead, by_day, of_point.files | files, notes)


def load_prices(sources: Sources, start: datetime, end: datetime) -> PointPrices:
    """The prices of a point that cover [start, end).

    Raises:
        SeriesError: a file is missing or wrong, or the prices don't cover the window.
    """
    columns = (START, REAL_TIME)
    files = (
        _with_named(sources.rt, files_with(sources, columns)) if sources.rt else needed(sources, "--rt FILE", columns)
    )
    found = covering.real_time(files, sources.point, (start, end), named=sources.rt, hold_gaps=sources.hold_gaps)
    day_ahead, da_files, notes = _day_ahead(sources, found.prices)
    files_of = {"rt": told(found.files)} | ({"da": told(da_files)} if da_files else {})
    return PointPrices(found.prices, day_ahead, files_of, (*found.notes, *notes))


def _hashprice(sources: Sources) -> tuple[dict[date, float], dict[str, str], list[str]]:
    """By day, the files that it is from, and what a reader must know.

    Of a day it is the first file's word. Before the one that is named, of the folder's.
    """
    columns = (series.DAY, *(series.NETWORK if sources.btc else (HASHPRICE,)))
    there = files_with(sources, columns) if sources.network else needed(sources, "--network FILE", columns)
    bitcoin = read_columns(sources.btc, (START, series.BITCOIN)) if sources.btc else None
    by_day: dict[date, float] = {}
    names, notes = list[str](), list[str]()
    for file in _with_named(sources.network, there):
        network = read_columns(file, columns)
        found = series.daily_hashprice(network if bitcoin is None else series.hashprice_at(network, bitcoin), file.name)
        other = sum(not isclose(value, by_day.get(day, value)) for day, value in found.items())
        notes += covering.not_read(file, f"hashprices of {series.counted(other, 'day')}", "--network") if other else []
        until = min(by_day) if by_day and sources.network else date.max
        new = {day: value for day, value in found.items() if day < until and day not in by_day}
        by_day |= new
        names += [file.name] if new else []
    return by_day, ({"btc": sources.btc.name} if sources.btc else {}) | {"network": told(names)}, notes


def elsewhere(sources: Sources, own: Prices, end: datetime) -> list[tuple[Prices, Floats]]:
    """Stretches without long gaps before an instant, of the granularity of `own`, with their day-ahead prices.

    Those of other points, and those of its own that end before `own` starts. An instant of a point counts once, as its first
    file has it. What is wrong in them is left out: they only add to what is learnt from.
    """
    by_point: dict[str, pl.DataFrame] = {}
    named = sources.rt if sources.rt and POINT in column_names(sources.rt) else None
    for file in _with_named(named, files_with(sources, (START, REAL_TIME, POINT))):
        frame = read_columns(file, (START, POINT, REAL_TIME)).with_columns(
            pl.col(REAL_TIME).cast(pl.Float64, strict=False)
        )
        for (point,), rows in frame.filter(pl.col(START) < end).sort(START).group_by([POINT], maintain_order=True):
            for new in stretches(rows, str(point), file.name, own.step_minutes):
                there = pl.DataFrame({START: pl.Series(new.starts_us).cast(INSTANT), REAL_TIME: new.usd_per_mwh})
                so_far = by_point.get(new.point, there.clear())
                by_point[new.point] = pl.concat([so_far, there.join(so_far, on=START, how="anti")])
    found = [
        stretch
        for point, rows in sorted(by_point.items())
        for stretch in stretches(rows.sort(START), point, "what is learnt from", own.step_minutes)
        if point != own.point or stretch.starts_us[-1] < own.starts_us[0]
    ]
    return [(prices, _day_ahead(sources, prices)[0]) for prices in found]


def _day_ahead(sources: Sources, prices: Prices) -> tuple[Floats, list[str], list[str]]:
    """The day-ahead price of each interval, the files that it is from, and what a reader must know.

    NaN where none is recorded, or an absurd one, or two in one file that contradict each other. Of finer ones the hour's mean.
    """
    files = [
        file
        for file in _with_named(sources.da, files_with(sources, (START, DAY_AHEAD)))
        if prices.point == sources.point or POINT in column_names(file)
    ]
    hours: list[pl.DataFrame] = []
    names, notes = list[str](), list[str]()
    for file in files:
        rows = series.plausible(rows_of(file, prices.point, DAY_AHEAD), DAY_AHEAD).select(START, DAY_AHEAD)
        new = rows.group_by(pl.col(START).dt.truncate("1h")).agg(pl.col(DAY_AHEAD).mean())
        if hours:
            read = pl.concat(hours)
            notes += _other_hours(file, new.join(read, on=START, suffix="_read"), prices)
            new = new.join(read, on=START, how="anti")
        if len(new):
            hours.append(new)
            names.append(file.name)
            notes += covering.nameless(file, prices.point)
    if hours:
        return prices.of_their_hours(pl.concat(hours)), names, notes
    notes = [f"no day-ahead price of {prices.point}: what is learnt does without"]
    if sources.da is not None:
        notes[0] += f" ({sources.da.name} has {told(points_of([sources.da])) or 'no rows'})"
    return np.full(len(prices.starts_us), np.nan), [], notes


def _other_hours(file: Path, both: pl.DataFrame, prices: Prices) -> list[str]:
    """A note where a file has other day-ahead prices in the hours of some prices than are read."""
    inside = pl.col(START).is_between(instant(int(prices.starts_us[0])), instant(int(prices.starts_us[-1])))
    other = both.filter(inside & ((pl.col(DAY_AHEAD) - pl.col(f"{DAY_AHEAD}_read")).abs() > CRUMB_USD_PER_MWH))
    return (
        covering.not_read(file, f"day-ahead prices of {series.counted(len(other), 'hour')}", "--da")
        if len(other)
        else []
    )


def _with_named(file: Path | None, others: Sequence[Path]) -> list[Path]:
    """A file that is named goes before the others, however its place is spelt."""
    return [
        *([file] if file else []),
        *(other for other in others if file is None or other.resolve() != file.resolve()),
    ]


def files_with(sources: Sources, columns: tuple[str, ...]) -> list[Path]:
    """Files that have the columns: those that are named, then those of the folder by name, Parquet before CSV."""
    return [f for f in (*sources.named, *_folder_files(sources)) if set(columns) <= set(_columns(f))]


def _folder_files(sources: Sources) -> list[Path]:
    if sources.folder is None:
        return []
    if not sources.folder.is_dir():
        raise SeriesError(f"--prices {sources.folder}: no such folder")
    found = [f for f in sources.folder.rglob("*") if f.name.lower().endswith(NAMES) and f.is_file()]
    return sorted(found, key=lambda file: (".csv" in file.name.lower(), file))


def named(option: str, file: Path, *kinds: tuple[str, ...]) -> Path:
    """The file, which has the columns of one of these kinds.

    Raises:
        SeriesError: it has not, so that it would not be read.
    """
    columns = set(_columns(file))
    if not any({START, *kind} <= columns for kind in kinds):
        wanted = ", or ".join(" and ".join((START, *kind)) for kind in kinds)
        seen = ", ".join(repr(name) for name in sorted(columns)) or "none that can be read"
        raise SeriesError(
            f"{option} {file}: no columns {wanted}; it has {seen}. Name the file that has them, or mend it."
        )
    return file


def _columns(file: Path) -> list[str]:
    try:
        return column_names(file)
    except SeriesError:
        return []


def needed(sources: Sources, option: str, columns: tuple[str, ...]) -> list[Path]:
    """The files that have the columns; `option` says in the error what to give.

    Raises:
        SeriesError: there is none.
    """
    files = files_with(sources, columns)
    if not files:
        place = "is named" if sources.folder is None else f"in {sources.folder}{_seen(sources)}"
        raise SeriesError(f"no file with {' and '.join(columns)} {place}{_nearly(sources, columns)}. Give {option}.")
    return files


def _nearly(sources: Sources, columns: tuple[str, ...]) -> str:
    """The columns of files that have the names inside others: blanks about them, or semicolons between."""
    near = [
        f"the columns of {file.name} are {', '.join(repr(name) for name in seen)}"
        for file, seen in ((file, _columns(file)) for file in (*sources.named, *_folder_files(sources)))
        if any(wanted in name and wanted != name for wanted in columns for name in seen)
    ]
    return f"; {told(near)}" if near else ""


def by_hour(files: Sequence[Path], columns: tuple[str, ...]) -> pl.DataFrame:
    """Columns by hour in order, of finer rows the mean; an hour is the first file's that has it. What is no number is null.

    Raises:
        SeriesError: two rows of an instant differ: of several places or kinds, of which none is known to be meant.
    """
    hours: pl.DataFrame | None = None
    for file in files:
        numbers = [pl.col(name).cast(pl.Float64, strict=False) for name in columns]
        rows = read_columns(file, (START, *columns)).with_row_index("row").with_columns(numbers).drop_nulls(START)
        rows = rows.unique([START, *columns], keep="first", maintain_order=True).sort(START, maintain_order=True)
        series.refuse_duplicates(rows, rows[START].dt.timestamp("us").to_numpy(), f"{file.name}: {', '.join(columns)}")
        found = rows.group_by(pl.col(START).dt.truncate("1h")).agg(pl.col(columns).mean())
        hours = found if hours is None else pl.concat([hours, found.join(hours, on=START, how="anti")])
    assert hours is not None
    return hours.sort(START)


def _seen(sources: Sources) -> str:
    """What is in a folder, and what of it can't be read."""
    files = _folder_files(sources)
    unread = _unread(files)
    seen = f", which has {told([file.name for file in files])}" if files else f", which has no {', '.join(NAMES)} file"
    return seen + (f" (can't be read: {told(unread)})" if unread else "")


def _unread(files: Sequence[Path]) -> list[str]:
    """Names of those that can't be."""
    return [file.name for file in files if not _columns(file)]
