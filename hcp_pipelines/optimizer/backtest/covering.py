"""The real-time prices of a window: of the finest granularity that covers it, from one file or several, one after the other.

What such a file lacks or has wrong inside the window is refused. Which files there are is in `folder.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.hours import MICROSECONDS_PER_MINUTE, instant
from hcp_pipelines.optimizer.backtest import series
from hcp_pipelines.optimizer.backtest.reading import INSTANT_LIKE, column_names, read_columns
from hcp_pipelines.optimizer.backtest.series import POINT, REAL_TIME, START, Prices, SeriesError

MOST_TOLD = 12  # points or files that a message lists


@dataclass(frozen=True)
class RealTime:
    """Prices of a window after their history, the files that they are from, and what a reader must know of these."""

    prices: Prices
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """The rows of the point in one file that begin before the window's end, numbered as they stand in it."""

    file: Path
    rows: pl.DataFrame
    step_minutes: int
    first: datetime
    end: datetime  # of the last interval of the file

    @classmethod
    def of(cls, file: Path, rows: pl.DataFrame, before: datetime) -> "_Part | None":
        """Rows in any order; the step is the commonest one. None of fewer than two instants."""
        starts = rows[START].drop_nulls().unique().sort()
        if len(starts) < 2:
            return None
        step = max(1, int(np.median(starts.diff().drop_nulls().dt.total_minutes().to_numpy())))
        early = rows.filter(pl.col(START).is_null() | (pl.col(START) < before))
        return cls(file, early, step, starts[0], starts[-1] + timedelta(minutes=step))

    def covers(self, start: datetime, end: datetime) -> bool:
        """By itself."""
        return self.first <= start and self.end >= end


def real_time(
    files: Sequence[Path], point: str, window: tuple[datetime, datetime], *, named: Path | None, hold_gaps: bool
) -> RealTime:
    """The prices of a point over [start, end), with what leads up to it without a long gap.

    A file that is named gives the granularity, and goes before the others.

    Raises:
        SeriesError: no files cover it, or what they have of it is wrong.
    """
    start, end = window
    rows = {file: rows_of(file, point, REAL_TIME) for file in files}
    parts = [part for file, each in rows.items() if (part := _Part.of(file, each, end))]
    steps = {part.step_minutes for part in parts if named is None or part.file == named}
    gaps = (timedelta(), series.LONGEST_HELD_GAP)  # rather whole than refused for its gap, unless that is to be held
    for bridged, step in product(gaps[1:] if hold_gaps else gaps, sorted(steps)):
        of_step = [part for part in parts if part.step_minutes == step]
        if _cover(of_step, start, end, bridged):
            finer = [part for part in parts if part.step_minutes < step and part.file != named]
            of_step.sort(key=lambda part: (part.file != named, not part.covers(start, end), part.file.name))
            found = _joined(of_step, point, window, hold_gaps=hold_gaps)
            return replace(found, notes=(*_too_short(finer), *found.notes))
    raise SeriesError(_uncovered(parts, rows, point, window))


def _too_short(finer: Sequence[_Part]) -> list[str]:
    return [
        f"{part.step_minutes}-minute prices of {part.file.name} are not read: it has {part.first:%Y-%m-%dT%H:%MZ} to "
        f"{part.end:%Y-%m-%dT%H:%MZ}, not the whole window"
        for part in finer
    ]


def rows_of(file: Path, point: str, column: str) -> pl.DataFrame:
    """The rows of one point, numbered as they stand in the file; a file without points is all of one."""
    has_points = POINT in column_names(file)
    rows = read_columns(file, (START, column, POINT) if has_points else (START, column)).with_row_index("row")
    rows = rows.with_columns(pl.col(column).cast(pl.Float64, strict=False))
    return rows.filter(pl.col(POINT) == point).drop(POINT) if has_points else rows


def points_of(files: Iterable[Path]) -> list[str]:
    """The points that files name, by name."""
    found = {point for file in files if POINT in column_names(file) for point in read_columns(file, (POINT,))[POINT]}
    return sorted(point for point in found if point is not None)


def told(words: Sequence[str]) -> str:
    """Words one after the other, a dozen at most."""
    more = len(words) - MOST_TOLD
    return ", ".join(words[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


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


def _cover(parts: Sequence[_Part], start: datetime, end: datetime, bridged: timedelta) -> bool:
    """Whether they do so together, one after the other, with gaps inside the window of at most so long."""
    reached = start
    for part in sorted(parts, key=lambda part: part.first):
        if part.first <= (reached + bridged if reached > start else start):
            reached = max(reached, part.end)
    return reached >= end


def _joined(parts: Sequence[_Part], point: str, window: tuple[datetime, datetime], *, hold_gaps: bool) -> RealTime:
    """Each instant from the first part that has it."""
    kept, notes = {parts[0].file: parts[0].rows}, nameless(parts[0].file, point)
    for part in parts[1:]:
        so_far = pl.concat(kept.values())
        notes += _other_prices(so_far, part, window[0])
        new = part.rows.join(so_far, on=START, how="anti")
        if len(new):
            kept[part.file] = new
            notes += nameless(part.file, point)
    rows = parts[0].rows
    if len(kept) > 1:
        rows = pl.concat(
            each.with_columns(row=pl.format("{} of {}", "row", pl.lit(file.name))) for file, each in kept.items()
        )
    names = tuple(file.name for file in kept)
    return RealTime(_with_history(rows, point, window, told(names), hold_gaps=hold_gaps), names, tuple(notes))


def _other_prices(rows: pl.DataFrame, part: _Part, start: datetime) -> list[str]:
    """A note where a part has other prices inside the window than are read."""
    both = part.rows.filter(pl.col(START) >= start).join(rows, on=START, suffix="_read")
    other = both.filter(pl.col(REAL_TIME) != pl.col(f"{REAL_TIME}_read"))
    if other.is_empty():
        return []
    return not_read(part.file, f"prices of {series.counted(len(other), 'interval')}", "--rt")


def not_read(file: Path, what: str, option: str) -> list[str]:
    """A note on what a file says otherwise than the one before it."""
    return [f"{file.name} has other {what}, which are not read: {option} FILE chooses"]


def nameless(file: Path, point: str) -> list[str]:
    """A note where a file doesn't say which point its prices are of."""
    return [] if POINT in column_names(file) else [f"{file.name} names no point: taken as {point}"]


def _with_history(
    rows: pl.DataFrame, point: str, window: tuple[datetime, datetime], name: str, *, hold_gaps: bool
) -> Prices:
    """The window's prices, checked, after the stretch without long gaps that leads up to it."""
    start = window[0]
    inside = rows.filter(pl.col(START).is_null() | (pl.col(START) >= start))
    found = series.prices_of(inside, point, name, hold_gaps=hold_gaps)
    step_us = found.step_minutes * MICROSECONDS_PER_MINUTE
    _refuse_uneven(found, window, name)
    earlier = rows.filter(pl.col(START) < start).sort(START)
    before = stretches(earlier, point, name, found.step_minutes)
    if not before or before[-1].starts_us[-1] + step_us != found.starts_us[0]:
        return found
    past = before[-1]
    return replace(
        found,
        starts_us=np.r_[past.starts_us, found.starts_us],
        usd_per_mwh=np.r_[past.usd_per_mwh, found.usd_per_mwh],
        left_out=len(earlier) - len(series.plausible(earlier)),
    )


def _refuse_uneven(found: Prices, window: tuple[datetime, datetime], name: str) -> None:
    """Raise SeriesError for a window that doesn't begin and end with an interval."""
    first = instant(int(found.starts_us[0]))
    last = instant(int(found.starts_us[-1]) + found.step_minutes * MICROSECONDS_PER_MINUTE)
    for edge, which, at, own in (("starts", "first", window[0], first), ("ends", "last", window[1], last)):
        if own != at:
            raise SeriesError(
                f"{name}: the window {edge} at {at:%Y-%m-%dT%H:%MZ}, its {which} interval of {found.step_minutes} minutes "
                f"{edge} at {own:%Y-%m-%dT%H:%M:%SZ}. Choose a window of whole intervals, or complete the file."
            )


def _uncovered(
    parts: Sequence[_Part], rows: Mapping[Path, pl.DataFrame], point: str, window: tuple[datetime, datetime]
) -> str:
    """What there is instead: files of the point and how far they go, rows without instants, or other points."""
    start, end = window
    there = told([f"{p.file.name} has {p.first:%Y-%m-%dT%H:%MZ} to {p.end:%Y-%m-%dT%H:%MZ}" for p in parts]) or told(
        [
            f"{file.name} has {len(each)} rows of it, {len(each) - each[START].null_count()} of them with {INSTANT_LIKE}"
            for file, each in rows.items()
            if len(each)
        ]
    )
    if not there:
        there = f"no file has that point; what they have: {told(points_of(rows)) or 'no rows'}"
    return (
        f"no {REAL_TIME} of {point} over {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}: {there}. "
        "Give --rt FILE, --point NAME or another window."
    )
