"""What each switch was worth as settled, so that all of a window add up to the difference that switching made.

Let V(k) be the settlement of a window in which the first k switches were taken and no other: devices stay where the k-th left
them. Switch k is worth V(k) − V(k−1), so that all together are V(n) − V(0): what was settled less the counterfactual in which
every device stayed where it was as the window began. Of that, `until_next_usd` is the part until these devices switched again:
what stands beside the expected dollars, which were reckoned against staying in the state before. The rest is what their having
been moved was still worth after they had been moved on; the switches after it have the opposite of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.economics import settlement as money
from hcp_pipelines.forecasting.hours import HOUR_US
from hcp_pipelines.optimizer.backtest.series import Floats, Ints
from hcp_pipelines.optimizer.settlement.day import (
    Day,
    devices_mwh,
    is_wake,
    metered,
    revenue_lines,
    states_of,
    wake_usd,
)
from hcp_pipelines.optimizer.settlement.spells import INTERVAL_US, STAYED, Spells

VALUE: dict[str, Any] = {
    "command_id": pl.String, "assignment": pl.Int32, "switched_at": INSTANT, "device_hours": pl.Float64,
    "devices": pl.Int64, "until_next_usd": money.MONEY, "realised_usd": money.MONEY,
}  # fmt: skip


@dataclass(frozen=True)
class _Worth:
    """By spell, dollars."""

    realised: Floats
    until_next: Floats


def switch_values(day: Day, done: Spells) -> pl.DataFrame:
    """A row a switch that moved devices (columns VALUE): what it was worth, and device-hours until they switched again.

    Dollars rest on what is known: an interval without a price counts in neither settlement.
    """
    moved = done.switch != STAYED
    worth = _worth(day, done)
    switch, usd = done.switch[moved], {"realised_usd": worth.realised, "until_next_usd": worth.until_next}
    frame = pl.DataFrame(
        {
            "switch": switch,
            "switched_us": done.from_us[moved],
            "devices": done.devices[moved],
            "device_hours": (done.devices * (done.to_us - done.from_us) / HOUR_US)[moved],
            **{name: values[moved] for name, values in usd.items()},
        }
    )
    summed = frame.group_by("switch").agg(pl.col("switched_us").min(), pl.exclude("switched_us").sum())
    keys = pl.DataFrame(
        {"command_id": [k for k, _ in done.keys], "assignment": [n for _, n in done.keys]},
        schema={"command_id": pl.String, "assignment": pl.Int32},
    ).with_row_index("switch")
    named = keys.with_columns(pl.col("switch").cast(pl.Int64)).join(summed, on="switch", maintain_order="left")
    instants = named.with_columns(switched_at=pl.from_epoch("switched_us", "us").dt.replace_time_zone("UTC"))
    return instants.with_columns(money.as_money(name) for name in usd).select(
        pl.col(name).cast(kind) for name, kind in VALUE.items()
    )


def _worth(day: Day, done: Spells) -> _Worth:
    dollars = earned(day, done)
    costs = np.nan_to_num(_wake_costs(day, done))
    end = np.full(len(done.to_us), done.end_us, dtype=np.int64)

    def gained(until_us: Ints) -> Floats:
        spans = [_between(dollars, done, state, until_us) for state in (done.state, done.before)]
        found: Floats = done.devices * (spans[0] - spans[1]) - costs
        return found

    realised, until_next = gained(end), gained(done.to_us)
    return _Worth(realised + _response(day, done), until_next)


def earned(day: Day, done: Spells) -> Floats:
    """[t + 1, g, s] what one device in a state has earned from the window's beginning on, net of its power."""
    steps, fleet = len(done.starts_us), day.fleet
    one = np.ones((steps, done.groups, STATE_COUNT))
    revenue = np.zeros_like(one)
    facts = states_of(fleet).select("group_id", pl.col("state").alias("detail"), "group", "code")
    for lines in revenue_lines(day, one):
        placed = lines.with_columns(step=_step(done)).join(facts, on=["group_id", "detail"])
        at = tuple(placed[name].to_numpy() for name in ("step", "group", "code"))
        np.add.at(revenue, at, placed["usd"].fill_null(0.0).to_numpy())
    usd_per_mwh = np.zeros(steps)
    for lines in _of_one_mwh(day):
        np.add.at(usd_per_mwh, lines.select(_step(done)).to_series().to_numpy(), lines["usd"].fill_null(0.0).to_numpy())
    per_interval = (revenue + fleet.power_mw[None] * usd_per_mwh[:, None, None]) * money.INTERVAL_H
    return np.concatenate([np.zeros((1, done.groups, STATE_COUNT)), per_interval.cumsum(axis=0)])


def _of_one_mwh(day: Day) -> list[pl.DataFrame]:
    """What a MWh costs in each interval."""
    drawn = day.intervals.with_columns(energy_mwh=pl.lit(1.0), basis=pl.lit(""))
    terms = day.terms
    peaks = money.peak_lines(drawn, terms.peak_usd_per_kw_year, terms.peaks_per_year)
    return [money.energy_lines(drawn, day.fleet.site.adders_usd_per_mwh), peaks]


def _step(done: Spells) -> pl.Expr:
    return ((pl.col("start_at").dt.timestamp("us") - done.start_us) // INTERVAL_US).alias("step")


def _between(dollars: Floats, done: Spells, state: Ints, until_us: Ints) -> Floats:
    """By spell: what one device in a state earned from the spell's beginning until an instant."""
    since, until = (earned_by(dollars, done, (done.group, state), at_us) for at_us in (done.from_us, until_us))
    found: Floats = until - since
    return found


def earned_by(dollars: Floats, done: Spells, of: tuple[Ints, Ints], at_us: Ints) -> Floats:
    """`earned` by an instant within the window, of groups and states, all of one length."""
    step, into_us = np.divmod(at_us - done.start_us, INTERVAL_US)
    low = dollars[(step, *of)]
    high = dollars[(np.minimum(step + 1, len(dollars) - 1), *of)]
    found: Floats = low + (high - low) * (into_us / INTERVAL_US)
    return found


def _wake_costs(day: Day, done: Spells) -> Floats:
    step = np.minimum((done.from_us - done.start_us) // INTERVAL_US, len(done.starts_us) - 1)
    found: Floats = done.devices * wake_usd(day)[step, done.group] * is_wake(day.fleet, done)
    return found


def _response(day: Day, done: Spells) -> Floats:
    """By spell: what it adds to payments for demand response, which are no sum over devices: taken in the order of switches."""
    found = np.zeros(len(done.switch))
    if day.events.is_empty():
        return found
    order = np.lexsort((done.switch, done.from_us))
    moved = order[done.switch[order] != STAYED]
    more = (devices_mwh(day, done.stayed()) - devices_mwh(day, done)).to_numpy()
    stayed = metered(day, done).with_columns(pl.col("energy_mwh") + pl.Series(more))["energy_mwh"].to_numpy()
    events = day.events.with_columns(step=_step(done))
    step = events["step"].to_numpy()
    changed = _changed_mwh(day, done, moved)[:, step]
    loads = stayed[step] + np.concatenate([np.zeros((1, len(step))), changed.cumsum(axis=0)])
    found[moved] = np.diff(_paid(events, loads))
    return found


def _paid(events: pl.DataFrame, loads_mwh: Floats) -> Floats:
    """[k] what all events pay at loads `[k, event's interval]`."""
    taken = pl.DataFrame({"k": np.arange(len(loads_mwh))}).join(events, how="cross", maintain_order="left_right")
    lines = money.response_lines(taken.with_columns(metered_mw=pl.Series(loads_mwh.ravel()) / money.INTERVAL_H))
    found: Floats = lines["usd"].to_numpy().reshape(loads_mwh.shape).sum(axis=1)
    return found


def _changed_mwh(day: Day, done: Spells, moved: Ints) -> Floats:
    """[switched spell, t] how much more the devices draw from their switch on."""
    power = day.fleet.power_mw
    mw = done.devices * (power[done.group, done.state] - power[done.group, done.before])
    ends = done.starts_us + INTERVAL_US
    hours = np.clip((ends[None] - done.from_us[moved, None]) / HOUR_US, 0.0, money.INTERVAL_H)
    found: Floats = mw[moved, None] * hours
    return found
