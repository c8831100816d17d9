"""Recorded series in the columns of the data manifest, checked row by row: what is wrong is named, nothing is repaired silently.

No decisions here. Which files of a folder are read is in `folder.py`.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import MICROSECONDS_PER_MINUTE, instant, microseconds
from hcp_pipelines.markets.central import CENTRAL

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

START = "interval_start_utc"
POINT = "settlement_point"
REAL_TIME = "rt_price_usd_per_mwh"
DAY_AHEAD = "da_price_usd_per_mwh"
DAY = "date_utc"
HASHPRICE = "hashprice_usd_per_ph_per_day_derived"
NETWORK = ("total_fees_btc", "issuance_btc", "hashrate_th_per_s")
BITCOIN = "close_usdt"
LOWEST_USD_PER_MWH = -1000.0  # below it, or above twice the offer cap of its date, a price is absurd (DESIGN §5)
CAPS_USD_PER_MWH = ((datetime(2022, 1, 1, tzinfo=UTC), 9000.0), (datetime.max.replace(tzinfo=UTC), 5000.0))
LONGEST_HELD_GAP = timedelta(hours=2)
MICROSECONDS_PER_DAY = 1440 * MICROSECONDS_PER_MINUTE


class SeriesError(ConfigError):
    """A recorded series can't be used; the message names the file and the row."""


@dataclass(frozen=True)
class Prices:
    """Settled prices of one point: a row an interval, in order, without gaps."""

    point: str
    step_minutes: int
    starts_us: Ints  # microseconds since 1970, of the start of each interval
    usd_per_mwh: Floats
    held: int = 0  # intervals that carry the last price over a gap
    unusual: int = 0  # beyond the offer cap of their date, inside the band: used as they are
    left_out: int = 0  # rows before the window that are absurd, or told twice otherwise

    @property
    def step_h(self) -> float:
        """Hours of one interval."""
        return self.step_minutes / 60

    def cut(self, start: int, end: int) -> "Prices":
        """The intervals [start, end)."""
        return replace(self, starts_us=self.starts_us[start:end], usd_per_mwh=self.usd_per_mwh[start:end])

    def row_at(self, at: datetime) -> int:
        """The first interval that starts at or after an instant."""
        return int(np.searchsorted(self.starts_us, microseconds(at)))

    def of_their_hours(self, hourly: pl.DataFrame) -> Floats:
        """What is told of each interval's hour: `START` and one more column, an hour at most once; NaN where nothing is."""
        (value,) = [name for name in hourly.columns if name != START]
        hours = pl.DataFrame({START: pl.Series(self.starts_us).cast(INSTANT).dt.truncate("1h")})
        joined = hours.join(hourly, on=START, how="left", maintain_order="left")
        return joined[value].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()


def prices_of(
    frame: pl.DataFrame, point: str, name: str, *, column: str = REAL_TIME, hold_gaps: bool = False
) -> Prices:
    """The prices in a frame with `interval_start_utc` and a price column, checked.

    Rows may be in any order. Messages count them from 0, by the frame's own column `row` where it has one.

    Args:
        frame: one point's rows.
        point: its name.
        name: of the file, for messages.
        column: the price column.
        hold_gaps: carry the last price over gaps of at most two hours instead of refusing them.

    Raises:
        SeriesError: fewer than two rows, a price that is missing or absurd, a duplicate, an instant off the grid, a gap.
    """
    numbered = frame if "row" in frame.columns else frame.with_row_index("row")
    rows = numbered.select("row", pl.col(START), pl.col(column).cast(pl.Float64, strict=False))
    if len(rows) < 2:
        raise SeriesError(
            f"{name}: {counted(len(rows), 'row')} of {point} in the window: at least 2 are needed, to tell how long an interval "
            "is. Choose a longer window, or complete the file."
        )
    unusual = _refuse_absurd(rows, column, name)
    rows = rows.sort(START, maintain_order=True)
    starts = rows[START].dt.timestamp("us").to_numpy()
    refuse_duplicates(rows, starts, name)
    step_us = int(np.median(np.diff(starts)))
    prices = rows[column].to_numpy()
    filled_starts, filled, held = _on_grid(rows, starts, prices, step_us, name, hold_gaps=hold_gaps)
    return Prices(point, step_us // MICROSECONDS_PER_MINUTE, filled_starts, filled, held, unusual)


def plausible(rows: pl.DataFrame, column: str = REAL_TIME) -> pl.DataFrame:
    """The rows of one point that can be learnt from: none absurd, each instant once, none of two that contradict."""
    good = rows.filter(_is_good(column)).unique([START, column], keep="first", maintain_order=True)
    return good.filter(~pl.col(START).is_duplicated())


def _cap() -> pl.Expr:
    """The offer cap of each row's date, $/MWh."""
    cap = pl.lit(CAPS_USD_PER_MWH[-1][1])
    for until, value in reversed(CAPS_USD_PER_MWH[:-1]):
        cap = pl.when(pl.col(START) < until).then(value).otherwise(cap)
    return cap


def _is_good(column: str) -> pl.Expr:
    price = pl.col(column).cast(pl.Float64, strict=False)
    good = price.is_finite() & price.is_between(LOWEST_USD_PER_MWH, 2 * _cap())
    return good.fill_null(value=False) & pl.col(START).is_not_null()


def _refuse_absurd(rows: pl.DataFrame, column: str, name: str) -> int:
    """The number of unusual prices; the first absurd one is refused, and before it a row that is of no instant."""
    lost = rows.filter(pl.col(START).is_null())
    if len(lost):
        raise SeriesError(
            f"{name}: row {lost['row'][0]}: {START} is missing, or no instant like 2024-01-01T00:00:00Z"
            f"{_like_that(len(lost))}. Mend or remove it."
        )
    judged = rows.with_columns(cap=_cap())
    bad = judged.filter(~_is_good(column))
    if len(bad):
        row, at, value, limit = bad.row(0)
        raise SeriesError(
            f"{name}: row {row} ({at}): {column}={value}: must be a number from {LOWEST_USD_PER_MWH:g} to {2 * limit:g} $/MWh"
            f"{_like_that(len(bad))}. Mend or remove it."
        )
    return int(judged.select((pl.col(column) > pl.col("cap")).sum()).item())


def counted(number: int, what: str) -> str:
    """How many of something there are, in words.

    >>> counted(1, "gap"), counted(1200, "row")
    ('1 gap', '1,200 rows')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _like_that(rows: int) -> str:
    return f"; {rows} rows are like that" if rows > 1 else ""


def refuse_duplicates(rows: pl.DataFrame, starts: Ints, name: str) -> None:
    """Raise SeriesError for rows in order, numbered in the column `row`, of which two are of one instant."""
    again = np.flatnonzero(np.diff(starts) == 0)
    if len(again):
        first, second = rows["row"][int(again[0])], rows["row"][int(again[0]) + 1]
        at = instant(int(starts[again[0]]))
        raise SeriesError(
            f"{name}: rows {first} and {second} are both of {_said(at)} ({counted(len(again), 'duplicate')}). "
            f"Keep one of them{_dst_hint(at)}."
        )


def _on_grid(
    rows: pl.DataFrame, starts: Ints, prices: Floats, step_us: int, name: str, *, hold_gaps: bool
) -> tuple[Ints, Floats, int]:
    """Starts and prices without gaps, and how many were filled."""
    steps = np.diff(starts)
    odd = np.flatnonzero(steps % step_us)
    if len(odd) or step_us % MICROSECONDS_PER_MINUTE:
        row, at = rows["row"][int(odd[0]) + 1 if len(odd) else 1], instant(int(starts[odd[0] + 1 if len(odd) else 1]))
        raise SeriesError(f"{name}: row {row} ({_said(at)}) is off the grid of {step_us / 6e7:g} minutes. Remove it.")
    gaps = np.flatnonzero(steps > step_us)
    for gap in gaps:
        length = timedelta(microseconds=int(steps[gap] - step_us))
        if not hold_gaps or length > LONGEST_HELD_GAP:
            raise SeriesError(_gap_message(name, rows["row"][int(gap)], int(starts[gap]), step_us, length, len(gaps)))
    grid = np.arange(starts[0], starts[-1] + step_us, step_us, dtype=np.int64)
    return grid, prices[np.searchsorted(starts, grid, side="right") - 1], len(grid) - len(starts)


def _gap_message(name: str, row: int | str, start: int, step_us: int, length: timedelta, gaps: int) -> str:
    missing = instant(start + step_us)
    remedy = (
        f"longer than the {LONGEST_HELD_GAP} that --hold-gaps fills"
        if length > LONGEST_HELD_GAP
        else "--hold-gaps carries the last price on"
    )
    return (
        f"{name}: after row {row} ({_said(instant(start))}) {length} are missing, from {_said(missing)} on "
        f"({counted(gaps, 'gap')} in all): {remedy}{_dst_hint(missing)}. Choose a window without it, or complete the file."
    )


def _said(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%MZ}"


def _dst_hint(at: datetime) -> str:
    """Words for who finds a gap or a duplicate in the night when clocks change, in UTC or in local time read as UTC."""
    for local in (at.astimezone(CENTRAL).date(), at.date()):
        if _changes_clock(local):
            return f" (the clocks of {CENTRAL.key} change on {local}: is the file in local time, or its repeated hour lost?)"
    return ""


def _changes_clock(day: date) -> bool:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=CENTRAL)
    return noon.utcoffset() != (noon - timedelta(days=1)).utcoffset()


def hashprice_at(network: pl.DataFrame, bitcoin: pl.DataFrame) -> pl.DataFrame:
    """Hashprice in $/PH/day by UTC day at the day's mean price of a series: (fees + subsidies) · price / (hashrate / 1000).

    Days without a price have none. Source: FACTS A, with the day's own blocks in place of what is expected of its difficulty.
    """
    days = bitcoin.group_by(pl.col(START).dt.date().alias(DAY)).agg(pl.col(BITCOIN).mean())
    fees, issued, hashrate = (pl.col(name).cast(pl.Float64, strict=False) for name in NETWORK)
    return (
        network.with_columns(pl.col(DAY).cast(pl.Date))
        .join(days, on=DAY, how="inner", maintain_order="left")
        .select(DAY, ((fees + issued) * pl.col(BITCOIN) / (hashrate / 1000)).alias(HASHPRICE))
    )


def daily_hashprice(frame: pl.DataFrame, name: str) -> dict[date, float]:
    """Hashprice in $/PH/day by UTC day from `date_utc` and `hashprice_usd_per_ph_per_day_derived`.

    Raises:
        SeriesError: no day, a day twice or missing, or a value that is missing, not a number or not above 0.
    """
    if frame.schema[DAY] not in (pl.Date, pl.Datetime):
        raise SeriesError(f"{name}: {DAY} is {frame.schema[DAY]}: must be a date like 2024-01-01")
    if frame.is_empty():
        raise SeriesError(f"{name}: no day has a hashprice: complete the file")
    by_day: dict[date, float] = {}
    for row, (day, value) in enumerate(_days(frame)):
        if day is None:
            raise SeriesError(f"{name}: row {row}: {DAY} is missing, or no date like 2024-01-01. Mend or remove it.")
        if not (value is not None and 0 < value < 1e6):
            raise SeriesError(
                f"{name}: row {row} ({day}): {HASHPRICE}={value}: must be above 0 and below 1e6 $/PH/day. "
                "Mend or remove it."
            )
        if day in by_day:
            raise SeriesError(f"{name}: row {row}: {day} is there twice. Keep one of them.")
        by_day[day] = value
    return by_day


def _days(frame: pl.DataFrame) -> Iterator[tuple[date | None, float | None]]:
    columns = frame.select(pl.col(DAY).cast(pl.Date), pl.col(HASHPRICE).cast(pl.Float64, strict=False))
    return iter(columns.iter_rows())


def hashprice_of(
    by_day: dict[date, float], starts_us: Ints, name: str, *, days_back: int = 0, is_carried: bool = False
) -> Floats:
    """Hashprice of the UTC day of instants in order, or of the day `days_back` before it.

    With `is_carried` days without one have that of the last one before them, and those before the first that one's: good enough
    to learn from, not to settle at.

    Raises:
        SeriesError: a day has none.
    """
    day = timedelta(days=1)
    days = starts_us // MICROSECONDS_PER_DAY
    values, recorded = np.empty(int(days[-1] - days[0]) + 1), sorted(by_day)
    for n in range(len(values)):
        wanted = date(1970, 1, 1) + day * (int(days[0]) + n - days_back)
        if is_carried:
            wanted = recorded[max(bisect_right(recorded, wanted) - 1, 0)]
        if wanted not in by_day:
            raise SeriesError(
                f"{name}: no {HASHPRICE} of {wanted}; it has {recorded[0]} to {recorded[-1]}. Complete it, give another one "
                "(--network FILE), or choose another window."
            )
        values[n] = by_day[wanted]
    found: Floats = values[days - days[0]]
    return found
