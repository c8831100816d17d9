"""A facility's day in money: the lines of what it did, and of what it would have done had no device been switched.

Inputs are frames by 15-minute interval; formulas are `economics.settlement`'s. What a switch was worth is in `switch_value.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.economics import settlement as money
from hcp_pipelines.economics.contract import ERCOT_PEAKS_PER_YEAR
from hcp_pipelines.optimizer.backtest.replay.fleet import KIND_OF_MODE, Fleet
from hcp_pipelines.optimizer.backtest.series import Floats
from hcp_pipelines.optimizer.settlement.spells import INTERVAL_US, STAYED, Spells

JOURNAL = "journal"  # what energy rests on where no meter was read
PROMISES: dict[str, Any] = {
    "start_at": INSTANT, "programme": pl.String, "mw_h": pl.Float64, "capacity_usd_per_mw_h": pl.Float64,
}  # fmt: skip
EVENTS: dict[str, Any] = {
    "start_at": INSTANT, "programme": pl.String, "hours": pl.Float64, "baseline_mw": pl.Float64, "mw": pl.Float64,
    "before_mw": pl.Float64, "energy_usd_per_mwh": pl.Float64,
}  # fmt: skip
MISSED: dict[str, Any] = {
    "start_at": INSTANT, "programme": pl.String, "missed_mwh": pl.Float64, "penalty_usd_per_mwh": pl.Float64,
}  # fmt: skip
METERED: dict[str, Any] = {"start_at": INSTANT, "energy_mwh": pl.Float64, "basis": pl.String}
TOLD, CREDITED = "told", "credited"  # what hashes rest on: miners, or the pool
HASHED: dict[str, Any] = {"start_at": INSTANT, "group_id": pl.String, "ph_days": pl.Float64, "basis": pl.String}
RATES: dict[str, Any] = {"start_at": INSTANT, "gpu_type": pl.String, "rate_usd_per_gpu_hour": pl.Float64}


@dataclass(frozen=True)
class Terms:
    """What the power contract says beside adders: hedges as (start, end, MW, $/MWh), and the tariff on coincident peaks."""

    hedges: Sequence[tuple[datetime, datetime, float, float]] = ()
    peak_usd_per_kw_year: float = 0.0
    peaks_per_year: int = ERCOT_PEAKS_PER_YEAR


@dataclass(frozen=True)
class Day:
    """What a window settles at.

    `intervals` has a row each 15 minutes: `start_at`, `price_usd_per_mwh`, `hashprice_usd_per_ph_day`, `is_peak`; unknown values
    are null. `gpu_rates` (RATES), `meter` (METERED; intervals may be absent), `promises`, `events`, `missed` as above; `hashed`
    (HASHED) is what miners told, or the pool credited, of the groups and intervals of which it is known.
    """

    fleet: Fleet
    terms: Terms
    intervals: pl.DataFrame
    gpu_rates: pl.DataFrame
    meter: pl.DataFrame
    promises: pl.DataFrame
    events: pl.DataFrame
    missed: pl.DataFrame
    hashed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=HASHED))


def settle(day: Day, done: Spells) -> pl.DataFrame:
    """The lines of what was done (columns `LINE`, dollars DECIMAL(18,6))."""
    return money.settled([*_lines(day, done, metered(day, done)), deviation_lines(day, done)])


def settle_stayed(day: Day, done: Spells) -> pl.DataFrame:
    """The lines of the counterfactual: every device stayed where it was as the window began, and nothing woke.

    The meter would have shown what it did, and what the devices would have drawn beyond what they drew. What miners hashed beyond
    what their states say, what was promised, and whether it was kept, is the same.
    """
    stayed = done.stayed()
    more = devices_mwh(day, stayed) - devices_mwh(day, done)
    drawn = metered(day, done).with_columns(pl.col("energy_mwh") + more)
    return money.settled([*_lines(day, stayed, drawn), deviation_lines(day, done)])


def metered(day: Day, done: Spells) -> pl.DataFrame:
    """Energy at the meter by interval, with price and `is_peak`; where none was read, what devices draw in their states."""
    drawn = day.intervals.with_columns(drawn_mwh=devices_mwh(day, done))
    joined = drawn.join(day.meter, on="start_at", how="left", maintain_order="left")
    return joined.with_columns(
        energy_mwh=pl.coalesce("energy_mwh", "drawn_mwh"), basis=pl.col("basis").fill_null(JOURNAL)
    ).drop("drawn_mwh")


def devices_mwh(day: Day, done: Spells) -> pl.Series:
    """Energy of the devices by interval, all-in, by their states."""
    return pl.Series((done.device_hours() * day.fleet.power_mw[None]).sum(axis=(1, 2)))


def _lines(day: Day, done: Spells, drawn: pl.DataFrame) -> list[pl.DataFrame]:
    site, terms = day.fleet.site, day.terms
    loads = drawn.with_columns(metered_mw=pl.col("energy_mwh") / money.INTERVAL_H)
    events = day.events.join(loads.select("start_at", "metered_mw"), on="start_at")
    return [
        money.energy_lines(drawn, site.adders_usd_per_mwh),
        money.hedge_lines(day.intervals, terms.hedges),
        money.peak_lines(drawn, terms.peak_usd_per_kw_year, terms.peaks_per_year),
        *revenue_lines(day, done.device_hours()),
        money.reserve_lines(day.promises),
        money.response_lines(events),
        money.penalty_lines(day.missed),
        money.wake_lines(wakes(day, done)),
    ]


def revenue_lines(day: Day, device_hours: Floats) -> list[pl.DataFrame]:
    """What device-hours `[t, g, s]` earn."""
    hours = _hours(day, device_hours)
    site = day.fleet.site
    return [money.mining_lines(hours, site.pool_fee_fraction), money.gpu_lines(hours, site.gpu_utilization)]


def deviation_lines(day: Day, done: Spells) -> pl.DataFrame:
    """What miners told that they hashed, or were credited, less what their states say but for what each wake is taken to lose.

    So `mining`, `wakes` (without their wear) and this come to what was told or credited.
    """
    fleet = day.fleet
    lost = fleet.wake_usd_per_index / (1 - fleet.site.pool_fee_fraction)  # [g] PH-days a wake of a miner
    full = _hash_rates(fleet) / 24_000
    said = (done.device_hours() * full[None]).sum(axis=2) - _woken(done, fleet) * lost[None]
    names = [group.group_id for group in fleet.groups]
    expected = pl.DataFrame(said, schema=names, orient="row").with_columns(
        day.intervals.select("start_at", "hashprice_usd_per_ph_day")
    )
    by_group = expected.unpivot(
        names, index=["start_at", "hashprice_usd_per_ph_day"], variable_name="group_id", value_name="said"
    )
    told = day.hashed.join(by_group, on=["start_at", "group_id"], maintain_order="left")
    return money.deviation_lines(told.with_columns(pl.col("ph_days") - pl.col("said")), fleet.site.pool_fee_fraction)


def _hash_rates(fleet: Fleet) -> Floats:
    """[g, s] TH/s of a device."""
    facts = states_of(fleet)
    found = np.zeros_like(fleet.power_mw)
    found[facts["group"].to_numpy(), facts["code"].to_numpy()] = facts["hash_rate_th_per_s"].fill_null(0.0).to_numpy()
    return found


def _hours(day: Day, device_hours: Floats) -> pl.DataFrame:
    """Device-hours as rows, an interval and state of a ladder each, with what they are paid by."""
    facts = states_of(day.fleet)
    starts = day.intervals.select("start_at", "hashprice_usd_per_ph_day")
    places = facts["group"].to_numpy(), facts["code"].to_numpy()
    hours = pl.Series(device_hours[:, *places].ravel())
    crossed = starts.join(facts, how="cross", maintain_order="left_right").with_columns(device_hours=hours)
    return crossed.join(day.gpu_rates, on=["start_at", "gpu_type"], how="left", maintain_order="left")


def states_of(fleet: Fleet) -> pl.DataFrame:
    """A row a group and state of its ladder: what a device in it is paid for."""
    site = fleet.site
    return pl.DataFrame(
        [
            {
                "group": g,
                "code": int(each.state),
                "group_id": group.group_id,
                "state": each.state.label,
                "kind": KIND_OF_MODE.get(DeviceState(each.state).mode, ""),
                "hash_rate_th_per_s": each.hash_rate_th_per_s,
                "gpu_type": group.gpu_type,
                "rate_fraction": site.gpu_rate_fraction.get(each.state, 1.0),
            }
            for g, group in enumerate(fleet.groups)
            for each in group.ladder
        ]
    )


def wakes(day: Day, done: Spells) -> pl.DataFrame:
    """Devices that a switch took from a state that earns nothing to one that earns, by interval and group; cost of one."""
    counts = _woken(done, day.fleet)
    at, group = np.nonzero(counts)
    cost = wake_usd(day)[at, group]
    names = np.array([each.group_id for each in day.fleet.groups], dtype=object)
    return pl.DataFrame(
        {
            "start_at": day.intervals["start_at"].gather(at),
            "group_id": pl.Series(names[group].tolist(), dtype=pl.String),
            "devices": counts[at, group],
            "wake_usd": pl.Series(cost).fill_nan(None),
        }
    )


def _woken(done: Spells, fleet: Fleet) -> Floats:
    """[t, g] devices that woke."""
    woken = is_wake(fleet, done)
    step = (done.from_us[woken] - done.start_us) // INTERVAL_US
    counts = np.zeros((len(done.starts_us), len(fleet.groups)))
    np.add.at(counts, (step, done.group[woken]), done.devices[woken])
    return counts


def is_wake(fleet: Fleet, done: Spells) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """By spell whether it began with a wake."""
    earns = fleet.earns
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = (
        (done.switch != STAYED) & earns[done.group, done.state] & ~earns[done.group, done.before]
    )
    return found


def wake_usd(day: Day) -> Floats:
    """[t, g] dollars of waking one device; NaN where what it would earn is not known."""
    fleet = day.fleet
    columns = [index_values(day, group.gpu_type) for group in fleet.groups]
    found: Floats = np.stack(columns, axis=1) * fleet.wake_usd_per_index + fleet.wake_usd
    return found


def index_values(day: Day, gpu_type: str) -> Floats:
    """By interval, what revenue follows: the rental rate of a GPU type, or the hashprice where it is ""; NaN where unknown."""
    if not gpu_type:
        values = day.intervals["hashprice_usd_per_ph_day"]
    else:
        of_type = day.gpu_rates.filter(pl.col("gpu_type") == gpu_type)
        values = day.intervals.join(of_type, on="start_at", how="left", maintain_order="left")["rate_usd_per_gpu_hour"]
    found: Floats = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return found
