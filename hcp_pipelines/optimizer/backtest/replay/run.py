"""A replay: strategies and the policies that were published, on the market as it was recorded, beside what was done.

Left out, and so what the difference to `realised` is made of: ramps, minimum times, orders, locks and stops, obligations and grid
signals, devices that refuse or fail, stale inputs, and the seconds that a switch takes. A policy's own limits and floor hold.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.economics.power import STEP_MINUTES
from hcp_pipelines.forecasting.hours import instant, microseconds
from hcp_pipelines.optimizer.backtest.account import GapClosed, gap_closed
from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.replay.fleet import (
    Fleet,
    Ledger,
    best_states,
    case_of,
    schedule_of,
    settle,
)
from hcp_pipelines.optimizer.backtest.replay.history import STEP_H, History
from hcp_pipelines.optimizer.backtest.replay.realised import Realised
from hcp_pipelines.optimizer.backtest.request import LEAST_TRAINING_DAYS
from hcp_pipelines.optimizer.backtest.run import strategy_of
from hcp_pipelines.optimizer.backtest.series import Ints
from hcp_pipelines.optimizer.backtest.simulate import simulate
from hcp_pipelines.optimizer.backtest.strategies import Hysteresis, Strategy
from hcp_pipelines.optimizer.band import PLAIN
from hcp_pipelines.optimizer.steps import INTERVAL_H
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Policy

REALISED, PUBLISHED = "realised", "published"
NAMES = ("always_on", "break_even", "hysteresis", "mpc", PUBLISHED, "oracle")
NEEDED = ("break_even", "oracle")
OWN_BAND = Hysteresis(
    PLAIN.wake_share * STEP_H / INTERVAL_H, PLAIN.sleep_share * STEP_H / INTERVAL_H
)  # the live policies', by these steps


@dataclass(frozen=True)
class InForce:
    """A policy from the instant on at which it was solved, as JSON: a month has thousands, and one at a time is looked at."""

    since_us: int
    body: str
    model: str = ""  # that its strikes are from; none: the plain band


@dataclass(frozen=True)
class Replay:
    """What a replay found: a ledger and a share of the gap by strategy, `realised` first; and what a reader must know."""

    facility_id: str
    start: datetime
    end: datetime
    history: History
    mw: float
    ledgers: dict[str, Ledger]
    gaps: dict[str, GapClosed]
    notes: tuple[str, ...]


def replay(
    fleet: Fleet,
    whole: History,
    window: tuple[datetime, datetime],
    done: Realised,
    policies: Sequence[InForce],
    strategies: Sequence[str] = (),
) -> Replay:
    """Replay a window; what of the history lies before it is learnt from.

    Raises:
        ConfigError: an unknown strategy, one that has too little to learn from, or a window without prices.
    """
    unknown = sorted(set(strategies) - set(NAMES))
    if unknown:
        raise ConfigError(f"no strategy {', '.join(unknown)}; there are {', '.join(NAMES)}")
    first = whole.row_at(microseconds(window[0]))
    history = whole.since(first)
    names = _names(strategies, first, policies)
    mixes = {name: _mix(name, fleet, whole, first, done.start, policies) for name in names}
    ledgers = {REALISED: settle(fleet, history, done.schedule)}
    ledgers |= {name: settle(fleet, history, schedule_of(fleet, done.start, mix)) for name, mix in mixes.items()}
    case, mw = case_of(fleet, history, 0), fleet.full_mw
    gaps = {name: gap_closed(case, ledgers, name, mw=mw) for name in ledgers}
    notes = (*_notes(fleet, history, window, done, first), *_strikes_from(policies if PUBLISHED in names else ()))
    return Replay(fleet.site.facility_id, *window, history, mw, ledgers, gaps, notes)


def _names(strategies: Sequence[str], rows_before: int, policies: Sequence[InForce]) -> list[str]:
    """Those asked for and the two ends of the gap; of those that nobody asked for by name, the ones that can be run."""
    can = {"mpc": _days(rows_before) >= LEAST_TRAINING_DAYS, PUBLISHED: bool(policies)}
    return [n for n in NAMES if (n in strategies if strategies else can.get(n, True)) or n in NEEDED]


def _days(rows: int) -> float:
    return rows * STEP_H / 24


def _mix(name: str, fleet: Fleet, whole: History, first: int, start: Ints, policies: Sequence[InForce]) -> Ints:
    """[t, g, s] what a strategy does in the window."""
    if name == PUBLISHED:
        return followed(fleet, whole.since(first), start, policies)
    cases = [case_of(fleet, whole, g) for g in range(len(fleet.groups))]
    strategy = _strategy(name, [case.cut(0, first) for case in cases], instant(int(whole.starts_us[first])))
    mix = np.zeros((len(whole) - first, *start.shape), dtype=np.int64)
    for g, group in enumerate(fleet.groups):
        case, high = cases[g], np.full(len(whole), int(group.ladder[-1].state))
        if name == "oracle":
            case, high = best_states(fleet, whole, g)
        window, strikes = case.cut(first, len(case)), strategy.strikes(case).cut(first)
        on = int(start[g][fleet.earns[g]].sum())
        for starts_on, devices in ((True, on), (False, group.devices - on)):
            found = simulate(window, strikes, starts_on=starts_on, is_guarded=strategy.is_guarded)
            state = np.where(found.is_on, high[first:], int(group.ladder[0].state))
            mix[np.arange(len(mix)), g, state] += devices
    return mix


def _strategy(name: str, training: list[Case], until: datetime) -> Strategy:
    lessons = training if training and _days(len(training[0])) >= LEAST_TRAINING_DAYS else []
    return OWN_BAND if name == "hysteresis" and not lessons else strategy_of(name, lessons, until)


def followed(fleet: Fleet, history: History, start: Ints, policies: Sequence[InForce]) -> Ints:
    """[t, g, s] what the policies in force ask for, by the evaluation that decides live, each step from the mix before it."""
    order = sorted(policies, key=lambda policy: policy.since_us)
    since = np.array([policy.since_us for policy in order], dtype=np.int64)
    places = {group.group_id: g for g, group in enumerate(fleet.groups)}
    mix, guard, out = start.copy(), None, np.zeros((len(history), *start.shape), dtype=np.int64)
    current, compiled = -1, None
    for t, at_us in enumerate(history.starts_us.tolist()):
        n = int(np.searchsorted(since, at_us, side="right")) - 1
        if n != current:
            current, compiled = n, compile_policy(Policy.model_validate_json(order[n].body))
        if compiled is not None:
            rows = [places[name] for name in compiled.group_ids if name in places]
            indices = {name: float(values[t]) for name, values in history.indices.items()}
            guard = (guard or GuardState.empty(compiled)).carried_to(compiled)
            price, elapsed_h = float(history.known_usd_per_mwh[t]), STEP_H if t else 0.0
            found = evaluate(compiled, mix[rows], price, indices, instant(at_us), guard, elapsed_h)
            mix[rows], guard = found.targets, found.guard
        out[t] = mix
    return out


def _strikes_from(policies: Sequence[InForce]) -> list[str]:
    """Which models the published policies asked."""
    counted = Counter(f"model {policy.model}" if policy.model else "the plain band" for policy in policies)
    said = ", ".join(f"{count} from {what}" for what, count in counted.most_common())
    return [f"strikes of the published policies: {said}"] if said else []


def _notes(
    fleet: Fleet, history: History, window: tuple[datetime, datetime], done: Realised, rows_before: int
) -> tuple[str, ...]:
    notes = [
        "not replayed, and so what sets realised apart: ramps, minimum times, orders, locks and stops, obligations, devices that "
        "refuse or fail, stale inputs, and the time from a price to the ack",
        f"{len(history)} steps of 5 minutes; energy at each interval's settlement price, revenue at the indices of the time",
        "perfect foresight and the rules switch whole groups and meet no limit of the site; published policies do",
    ]
    left_out = (window[1] - window[0]) // timedelta(minutes=STEP_MINUTES) - len(history)
    if left_out:
        notes.append(f"{left_out} steps have no recorded price or index, and are left out for everybody")
    if done.unnamed:
        notes.append(
            f"{done.unnamed} of {int(fleet.devices.sum())} devices are never named in the journal: taken to run"
        )
    if _days(rows_before) < LEAST_TRAINING_DAYS:
        notes.append("less than two weeks are recorded before the window: hysteresis has the policy's own band, no mpc")
    return tuple(notes)
