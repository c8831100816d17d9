"""A programme as a window meets it: whose miners are enrolled, when it may call, what it pays an hour, and its calls.

Who calls is the grid, on days that day-ahead prices choose, which are published the day before.
Strategies see a call once it is told.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, MICROSECONDS_PER_MINUTE, Floats, Ints, instant, microseconds
from hcp_pipelines.optimizer.backtest.mixed.response.terms import DearDays, DrawnDays, ListedCalls, Terms
from hcp_pipelines.optimizer.backtest.mixed.site import MixedSite

Bools = npt.NDArray[np.bool_]
ALL_YEAR = 12


@dataclass(frozen=True)
class Call:
    """One call. Instants in microseconds since 1970; rows are intervals of the window, `start` to before `end`."""

    told_us: int
    deployed_us: int
    start_us: int
    end_us: int
    told: int  # the first interval whose decision may know of it
    hold: int  # from here to the start the load has to be on: the meter's reading at the deployment is the baseline
    start: int
    end: int
    month: int


@dataclass(frozen=True)
class Response:
    """A programme over a window; hourly columns."""

    terms: Terms
    is_enrolled: Bools  # [g]
    is_available: Bools  # [h] it may call, and what is enrolled is sold to nobody else
    capacity_usd: Floats  # [h] for the hour, all of the MW
    month: Ints  # [h] local, months since 1970
    calls: tuple[Call, ...]

    @property
    def by_month(self) -> dict[int, list[Call]]:
        """Calls by local month, in order."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.month, []).append(call)
        return found


class Clock(NamedTuple):
    """A window's time: starts of intervals, intervals an hour; local hour and day of each hour."""

    starts_us: Ints
    steps: int
    local_hour: Ints
    day: Ints


class Spell(NamedTuple):
    """Hours of a window that are called: the first, and how many."""

    first: int
    hours: int

    @property
    def end(self) -> int:
        """The hour after the last."""
        return self.first + self.hours


def enrolled_site(site: MixedSite, terms: Terms) -> MixedSite:
    """The site with the programme's MW as groups of their own, taken where a MWh earns least.

    Raises:
        ConfigError: there are not so many MW of miners.
    """
    there_mw = sum(group.mw for group in site.groups)
    if terms.mw > there_mw:
        raise ConfigError(
            f"{terms.programme}: {terms.mw:g} MW are enrolled, there are {there_mw:g} MW of miners: lower mw"
        )
    left, groups = terms.mw, list(site.groups)
    for group in sorted(site.groups, key=lambda each: -each.efficiency_j_per_th):
        taken, at = min(group.mw, left), groups.index(group)
        left -= taken
        rest = [replace(group, mw=group.mw - taken)] if taken < group.mw else []
        own = [replace(group, name=f"{group.name} enrolled", mw=taken, is_enrolled=True)] if taken else []
        groups[at : at + 1] = [*rest, *own]
    return replace(site, groups=tuple(groups))


def response_of(terms: Terms, site: MixedSite, clock: Clock, day_ahead: Floats) -> Response:
    """The programme over a window; `day_ahead` has a price an hour, NaN where there is none.

    Raises:
        ConfigError: a notice that is too short for these intervals, or listed calls that the terms don't allow.
    """
    step_us = HOUR_US // clock.steps
    least = terms.response_minutes * MICROSECONDS_PER_MINUTE + step_us
    if terms.notice_minutes * MICROSECONDS_PER_MINUTE < least:
        raise ConfigError(
            f"{terms.programme}: notice_minutes {terms.notice_minutes}: who is asleep can't be on as the meter is read; with "
            f"intervals of {60 // clock.steps} minutes at least {least // MICROSECONDS_PER_MINUTE} are needed"
        )
    month = _months(clock.day)
    is_season = np.isin(month % 12 + 1, terms.months)
    is_available = is_season & (clock.local_hour >= terms.from_hour) & (clock.local_hour < terms.to_hour)
    hours_a_month = (_first_day(month + 1) - _first_day(month)) * terms.hours_a_day
    capacity = np.where(is_available, terms.capacity_usd_per_mw_month * terms.mw / hours_a_month, 0.0)
    spells = _chosen(terms, clock, is_available, month, day_ahead)
    calls = tuple(_call(terms, clock, month, spell) for spell in spells)
    return Response(
        terms,
        np.array([group.is_enrolled for group in site.groups]),
        is_available,
        capacity,
        month,
        tuple(call for call in calls if call.told_us >= clock.starts_us[0] and call.hold >= 0),
    )


def _months(day: Ints) -> Ints:
    """Local months of local days: months since 1970 (so that % 12 is January's 0)."""
    return day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _first_day(month: Ints) -> Ints:
    """Days since 1970 of months' first ones."""
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _call(terms: Terms, clock: Clock, month: Ints, spell: Spell) -> Call:
    first, hours = spell
    start = int(clock.starts_us[0]) + first * HOUR_US
    told, deployed = (
        start - minutes * MICROSECONDS_PER_MINUTE for minutes in (terms.notice_minutes, terms.response_minutes)
    )
    row = first * clock.steps
    return Call(
        told, deployed, start, start + hours * HOUR_US,
        told=int(np.searchsorted(clock.starts_us, told)),
        hold=int(np.searchsorted(clock.starts_us, deployed - 1, side="right")) - 1,
        start=row, end=row + hours * clock.steps, month=int(month[first]),
    )  # fmt: skip


def _chosen(terms: Terms, clock: Clock, is_available: Bools, month: Ints, day_ahead: Floats) -> list[Spell]:
    """Hours of each call, in order."""
    match terms.calls:
        case ListedCalls() as listed:
            return _listed(terms, listed, clock, is_available, month)
        case DearDays() as dear:
            hours = terms.longest_hours
            runs = (_dearest(rows, day_ahead, hours) for rows in _days(clock.day, is_available, terms.hours_a_day))
            wanted = [Spell(first, hours) for first, usd in runs if usd >= dear.least_usd_per_mwh]
        case DrawnDays() as drawn:
            wanted = _drawn(terms, drawn, clock, is_available, month, day_ahead)
    return _allowed(terms, wanted, _seasons(terms, month), _least_gap_hours(terms, clock.steps))


def _drawn(
    terms: Terms, drawn: DrawnDays, clock: Clock, is_available: Bools, month: Ints, day_ahead: Floats
) -> list[Spell]:
    """Of each season's dearest days as many as may be called, each for a time that is drawn too."""
    wanted, seasons = [], _seasons(terms, month)
    days = list(_days(clock.day, is_available, terms.hours_a_day))
    for season in sorted({seasons[rows[0]] for rows in days}):
        ranked = sorted(
            (rows for rows in days if seasons[rows[0]] == season),
            key=lambda rows: -_dearest(rows, day_ahead, terms.longest_hours)[1],
        )
        random = np.random.default_rng([drawn.seed, season])
        most = max(1, round(drawn.dearest_fraction * len(ranked)))
        for n in random.permutation(most)[: terms.most_calls_a_season]:
            hours = int(random.integers(1, terms.longest_hours + 1))
            first, usd = _dearest(ranked[int(n)], day_ahead, hours)
            if np.isfinite(usd):
                wanted.append(Spell(first, hours))
    return sorted(wanted)


def _listed(terms: Terms, listed: ListedCalls, clock: Clock, is_available: Bools, month: Ints) -> list[Spell]:
    """The listed calls that lie in the window, if the terms allow them all."""
    wanted, hours = [], terms.longest_hours
    for at in sorted(listed.starts):
        first, odd = divmod(microseconds(at) - int(clock.starts_us[0]), HOUR_US)
        if not 0 <= first <= len(is_available) - hours:
            continue
        if odd or not is_available[first : first + hours].all():
            raise ConfigError(
                f"{terms.programme}: the call of {at:%Y-%m-%dT%H:%M%z} does not begin at a full hour, or is not within the hours "
                f"from {terms.from_hour} to {terms.to_hour} of months {', '.join(map(str, terms.months))}"
            )
        wanted.append(Spell(first, hours))
    taken = _allowed(terms, wanted, _seasons(terms, month), _least_gap_hours(terms, clock.steps))
    if taken != wanted:
        refused = next(n for n, spell in enumerate(wanted) if taken[n : n + 1] != [spell])
        raise ConfigError(_why_refused(terms, clock, wanted[refused], taken[:refused]))
    return wanted


def _why_refused(terms: Terms, clock: Clock, refused: Spell, taken: Sequence[Spell]) -> str:
    """Too soon after the last one taken, or too many."""

    def told(hour: int) -> str:
        return f"{instant(int(clock.starts_us[0]) + hour * HOUR_US):%Y-%m-%dT%H:%MZ}"

    call, gap_hours = f"{terms.programme}: the call of {told(refused.first)}", _least_gap_hours(terms, clock.steps)
    if not taken or refused.first >= taken[-1].end + gap_hours:
        return f"{call} is one more than most_calls_a_season, {terms.most_calls_a_season}"
    return (
        f"{call} comes too soon after the one before, which ends at {told(taken[-1].end)}: recovery_hours is "
        f"{terms.recovery_hours}, and miners have to be on again as the baseline is read, response_minutes "
        f"{terms.response_minutes} before a call begins; from {told(taken[-1].end + gap_hours)} on it would do"
    )


def _allowed(terms: Terms, wanted: Sequence[Spell], seasons: Ints, gap_hours: int) -> list[Spell]:
    """Those that are no more than a season's most, and begin so long after the one before; the first come first."""
    taken: list[Spell] = []
    for spell in wanted:
        is_rested = not taken or spell.first >= taken[-1].end + gap_hours
        so_far = sum(seasons[before.first] == seasons[spell.first] for before in taken)
        if is_rested and so_far < terms.most_calls_a_season:
            taken.append(spell)
    return taken


def _least_gap_hours(terms: Terms, steps: int) -> int:
    """Between a call's end and the next one's beginning: its recovery, and time to be on as the next one's baseline is read."""
    held = terms.response_minutes * steps // 60 + 1  # intervals, the one before the reading included
    return max(terms.recovery_hours, math.ceil(held / steps))


def _days(day: Ints, is_available: Bools, hours_a_day: int) -> Iterator[Ints]:
    """Hours of each local day in which it may call, where the window has all of them."""
    rows = np.flatnonzero(is_available)
    _, first = np.unique(day[rows], return_index=True)
    return (part for part in np.split(rows, first[1:]) if len(part) == hours_a_day)


def _dearest(rows: Ints, day_ahead: Floats, hours: int) -> tuple[int, float]:
    """The first of the hours in a row that are the dearest, and their mean price; minus infinity where one is missing."""
    means = np.convolve(day_ahead[rows], np.full(hours, 1.0 / hours), mode="valid")
    at = int(np.argmax(np.nan_to_num(means, nan=-np.inf)))
    return int(rows[at]), float(np.nan_to_num(means[at], nan=-np.inf))


def _seasons(terms: Terms, month: Ints) -> Ints:
    """[h] which season an hour's month is in: months of the programme that follow one another; of all twelve the year."""
    if len(set(terms.months)) == ALL_YEAR:
        return month // ALL_YEAR
    begins = np.isin(month % 12 + 1, terms.months) & ~np.isin((month - 1) % 12 + 1, terms.months)
    turned = np.diff(month, prepend=month[0]) > 0
    seasons: Ints = np.cumsum(begins & turned)
    return seasons
