"""Regret by day: what perfect foresight would have earned on the day's own prices, from where devices were, less what they did.

The oracle is the back-test's (`optimizer.backtest.replay`), without limits of the site, ramps or orders: the difference holds
all of them. Each day begins where the devices were, its end is free. Energy is the devices' own here, reserves are not in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.economics.settlement import INTERVAL_H
from hcp_pipelines.optimizer.backtest.account import LEAST_GAP_USD_PER_MW_DAY
from hcp_pipelines.optimizer.backtest.replay.fleet import Schedule
from hcp_pipelines.optimizer.backtest.replay.history import STEP_H, History
from hcp_pipelines.optimizer.backtest.replay.realised import Realised
from hcp_pipelines.optimizer.backtest.replay.run import REALISED, replay
from hcp_pipelines.optimizer.backtest.series import Floats
from hcp_pipelines.optimizer.backtest.simulate import Bools
from hcp_pipelines.optimizer.settlement.day import Day, index_values, is_wake
from hcp_pipelines.optimizer.settlement.spells import INTERVAL_US, STAYED, Spells
from hcp_pipelines.orchestration.history.plan import midnight
from hcp_pipelines.orchestration.settlement.settled import SettledDay
from hcp_pipelines.orchestration.watching import Judged

STEPS = round(INTERVAL_H / STEP_H)
REGRET: dict[str, Any] = {
    "day_at": INSTANT, "facility_id": pl.String, "mw": pl.Float64, "hours": pl.Float64, "oracle_usd": pl.Float64,
    "realised_usd": pl.Float64, "break_even_usd": pl.Float64, "regret_usd": pl.Float64, "regret_usd_per_mw_day": pl.Float64,
    "gap_closed": pl.Float64,
}  # fmt: skip
TRAILING, LEAST_DAYS, WHOLE_DAY_H = timedelta(days=14), 3, 20.0
GROWN, LEAST_USD_PER_MW_DAY = 2.0, 5.0  # times the trailing mean, and at least so much above it


def regret_of(parts: Sequence[SettledDay]) -> Iterator[dict[str, object]]:
    """The row of a facility's day (REGRET), of all parts of it; none where no interval has its price and all indices."""
    found = [each for each in map(_replayed, parts) if each is not None]
    if not found:
        return
    usd = {name: sum(each.usd[name] for each in found) for name in ("oracle", REALISED, "break_even")}
    hours, regret = sum(each.hours for each in found), usd["oracle"] - usd[REALISED]
    mw_hours, gap = sum(each.mw * each.hours for each in found), usd["oracle"] - usd["break_even"]
    yield {
        "day_at": midnight(parts[0].start),
        "facility_id": parts[0].facility_id,
        "mw": mw_hours / hours,
        "hours": hours,
        "oracle_usd": usd["oracle"],
        "realised_usd": usd[REALISED],
        "break_even_usd": usd["break_even"],
        "regret_usd": regret,
        "regret_usd_per_mw_day": regret / mw_hours * 24,
        "gap_closed": (usd[REALISED] - usd["break_even"]) / gap
        if gap >= LEAST_GAP_USD_PER_MW_DAY * mw_hours / 24
        else None,
    }


@dataclass(frozen=True)
class _Replayed:
    """A part of a day: dollars by strategy, hours that are known, MW of all devices."""

    usd: dict[str, float]
    hours: float
    mw: float


def _replayed(settled: SettledDay) -> _Replayed | None:
    day, done = settled.day, settled.done
    known = _known(day)
    if not known.any():
        return None
    history = _history(day, known)
    realised = Realised(_mix(done.stayed()), _schedule(day, done, known), settled.unnamed)
    end = settled.start + timedelta(hours=INTERVAL_H) * len(known)
    found = replay(day.fleet, history, (settled.start, end), realised, (), ("oracle",))
    usd = {name: float(ledger.net_usd.sum()) for name, ledger in found.ledgers.items()}
    return _Replayed(usd, len(history) * STEP_H, found.mw)


def judge(regrets: pl.DataFrame, now: datetime) -> dict[str, Judged]:
    """By facility whether its newest whole day's regret has grown against the mean of the two weeks before."""
    whole = regrets.filter(pl.col("hours") >= WHOLE_DAY_H, pl.col("day_at") > now - TRAILING - timedelta(days=2))
    return {str(name): _judged(of.sort("day_at")) for (name,), of in whole.group_by("facility_id", maintain_order=True)}


def _judged(days: pl.DataFrame) -> Judged:
    newest, before = days.row(-1, named=True), days[:-1]["regret_usd_per_mw_day"]
    regret = float(newest["regret_usd_per_mw_day"])
    told: dict[str, Any] = {"day": f"{newest['day_at']:%Y-%m-%d}", "regret_usd_per_mw_day": round(regret, 2)}
    if len(before) < LEAST_DAYS:
        return Judged(
            True, f"{len(before)} days before {told['day']} are too few to judge, {LEAST_DAYS} are needed", told
        )
    mean = float(before.mean())  # type: ignore[arg-type]
    limit = max(GROWN * mean, mean + LEAST_USD_PER_MW_DAY)
    told |= {"trailing_mean_usd_per_mw_day": round(mean, 2), "limit_usd_per_mw_day": round(limit, 2)}
    word = "within" if regret <= limit else "above"
    why = f"regret of {told['day']}, {regret:.2f} $/MW-day, is {word} {limit:.2f}: the mean of {len(before)} days is {mean:.2f}"
    return Judged(regret <= limit, why, told)


def _known(day: Day) -> Bools:
    values = [day.intervals["price_usd_per_mwh"], *(pl.Series(v) for v in _indices(day).values())]
    found: Bools = np.all([v.cast(pl.Float64).fill_null(np.nan).is_finite().to_numpy() for v in values], axis=0)
    return found


def _indices(day: Day) -> dict[str, Floats]:
    """By interval, each index that a group's revenue follows; NaN where unknown."""
    return {group.index: index_values(day, group.gpu_type) for group in day.fleet.groups}


def _history(day: Day, known: Bools) -> History:
    """The day in steps of five minutes, each at its interval's price; intervals of which something is unknown are left out."""

    def steps(values: Floats) -> Floats:
        found: Floats = np.repeat(values[known], STEPS)
        return found

    starts = day.intervals["start_at"].dt.timestamp("us").to_numpy()[known]
    within = np.tile(np.arange(STEPS) * (INTERVAL_US // STEPS), len(starts))
    price = steps(day.intervals["price_usd_per_mwh"].fill_null(np.nan).to_numpy())
    indices = {name: steps(values) for name, values in _indices(day).items()}
    return History(np.repeat(starts, STEPS) + within, price, price, np.full(len(price), np.nan), indices)


def _mix(stayed: Spells) -> "np.ndarray[Any, np.dtype[np.int64]]":
    found = np.zeros((stayed.groups, STATE_COUNT), dtype=np.int64)
    np.add.at(found, (stayed.group, stayed.state), stayed.devices)
    return found


def _schedule(day: Day, done: Spells, known: Bools) -> Schedule:
    """What devices did: the mean of each interval; wakes and switches in the first step of theirs."""
    counts = np.repeat(done.device_hours()[known] / INTERVAL_H, STEPS, axis=0)
    at = (done.from_us - done.start_us) // INTERVAL_US
    wakes, switches = (np.zeros((len(known), done.groups)) for _ in range(2))
    woken, moved = is_wake(day.fleet, done), done.switch != STAYED
    for book, rows in ((wakes, woken), (switches, moved)):
        np.add.at(book, (at[rows], done.group[rows]), done.devices[rows])
    first = np.zeros((2, int(known.sum()) * STEPS, done.groups))
    first[:, ::STEPS] = wakes[known], switches[known]
    return Schedule(counts, first[0], first[1])
