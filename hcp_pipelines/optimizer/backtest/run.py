"""A back-test from its request to its report: load, build the cases, let every strategy decide, settle, compare.

The command prints the report; the page draws it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np

from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.optimizer.backtest import folder, series
from hcp_pipelines.optimizer.backtest.account import Account, GapClosed, account_of, gap_closed, unknown_shares
from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.folder import Recorded
from hcp_pipelines.optimizer.backtest.mpc import trained
from hcp_pipelines.optimizer.backtest.relearning import learnt_anew, learnt_in_window, relearnt_note
from hcp_pipelines.optimizer.backtest.request import (
    LEARNT,
    Request,
    case_of,
    refuse_unclear,
    training_cases,
)
from hcp_pipelines.optimizer.backtest.simulate import Schedule, simulate
from hcp_pipelines.optimizer.backtest.strategies import AlwaysOn, BreakEven, Oracle, Strategy, chosen_hysteresis

Progress = Callable[[str, int, int], None]  # what is done, how many of how many


@dataclass(frozen=True)
class Result:
    """One efficiency: the window's case, and by strategy the schedule, the account and the share of the gap."""

    case: Case
    schedules: dict[str, Schedule]
    accounts: dict[str, Account]
    gaps: dict[str, GapClosed]


@dataclass(frozen=True)
class Report:
    """All results of a request, and what a reader must know of the data and of what was learnt."""

    request: Request
    recorded: Recorded
    results: dict[float, Result]
    notes: tuple[str, ...]


def run(request: Request, progress: Progress = lambda *_: None) -> Report:
    """Back-test every strategy of a request at every efficiency.

    Raises:
        ConfigError: an unknown strategy, an empty window, a series that can't be used, or training past the window's start.
    """
    refuse_unclear(request)
    recorded = folder.load(request.sources, request.start, request.end)
    cases = training_cases(request, recorded) if set(LEARNT) & set(request.names) else []
    names = request.names if cases else [n for n in request.names if n != "mpc" or n in request.strategies]

    def learn(training: Sequence[Case], until: datetime) -> list[Strategy]:
        return [strategy_of(name, training, until, partial(progress, f"training {until:%Y-%m}")) for name in names]

    strategies = learnt_anew(request, recorded, learn)
    results, total = {}, len(request.efficiencies_j_per_th)
    for n, efficiency in enumerate(request.efficiencies_j_per_th):
        progress("back-test", n, total)
        results[efficiency] = result_of(case_of(request, recorded, efficiency), request.start, strategies)
    progress("back-test", total, total)
    shares = unknown_shares({f" at {efficiency:g} J/TH": each.gaps["oracle"] for efficiency, each in results.items()})
    return Report(
        request, recorded, results, (*data_notes(request, recorded), *_notes(request, cases, strategies), *shares)
    )


def strategy_of(
    name: str, training: Sequence[Case], until: datetime, learning: Callable[[int, int], None] = lambda *_: None
) -> Strategy:
    """The strategy of a name; what learns does so from cases that end at an instant, and tells `learning` how far it is."""
    match name:
        case "always_on":
            return AlwaysOn()
        case "break_even":
            return BreakEven()
        case "hysteresis":
            return chosen_hysteresis(training, until)
        case "mpc":
            return trained(training, until, learning)
    return Oracle()


def result_of(whole: Case, start: datetime, strategies: Sequence[Strategy]) -> Result:
    """What strategies make of a case from `start` on; what is before it is history that they may look at.

    Raises:
        TrainedTooLateError: a strategy has learnt from what came after the start.
    """
    first = int(np.searchsorted(whole.starts_us, microseconds(start)))
    window = whole.cut(first, len(whole))
    schedules: dict[str, Schedule] = {}
    for strategy in strategies:
        refuse_hindsight(strategy.name, strategy.trained_until, start)
        strikes = strategy.strikes(whole).cut(first)
        schedules[strategy.name] = simulate(window, strikes, is_guarded=strategy.is_guarded)
    accounts = {name: account_of(window, schedule) for name, schedule in schedules.items()}
    return Result(window, schedules, accounts, {name: gap_closed(window, accounts, name) for name in accounts})


def data_notes(request: Request, recorded: Recorded) -> list[str]:
    """What a reader must know of the series."""
    prices, notes = recorded.prices, list(recorded.notes)
    if prices.held:
        notes.append(f"{prices.held} intervals carry the last price over gaps")
    if prices.unusual:
        notes.append(f"{prices.unusual} prices beyond the offer cap are used as they are")
    if prices.left_out:
        notes.append(
            f"{prices.left_out} rows before the window are absurd, told again, or contradict each other, and are left out"
        )
    holes = recorded.hashprice_holes(request.start)
    if holes:
        notes.append(
            f"no hashprice of {series.counted(holes, 'day')} before the window: that of the last day before them is carried on"
        )
    unknown = np.isnan(recorded.day_ahead[prices.row_at(request.start) :])
    if unknown.any() and not np.isnan(recorded.day_ahead).all():
        notes.append(f"{unknown.sum():,} of the window's {len(unknown):,} intervals have no day-ahead price")
    return notes


def _notes(request: Request, cases: Sequence[Case], strategies: Sequence[Strategy]) -> list[str]:
    notes = []
    if request.has_least_times:
        notes.append(
            f"once woken on for at least {request.min_up_minutes:g} minutes, once asleep off for {request.min_down_minutes:g}; "
            "what mpc learns does not know of it"
        )
    days = sum(len(case) * case.step_h for case in cases) / 24 / max(1, len({c.efficiency_j_per_th for c in cases}))
    if cases:
        notes.append(
            f"learnt from {days:,.0f} days of prices before {request.trained_until:%Y-%m-%d}, all points together"
        )
    elif set(LEARNT) & set(request.names):
        first = learnt_in_window(request, strategies)[:1]
        until, of_all = (f" until {first[0]:%Y-%m-%d}", " of the whole window") if first else ("", "")
        notes.append(
            f"nothing to learn from before {request.trained_until:%Y-%m-%d}: hysteresis has the policy's own band{until}, "
            f"mpc is left out{of_all}"
        )
    return [*notes, *relearnt_note(request, strategies)]
