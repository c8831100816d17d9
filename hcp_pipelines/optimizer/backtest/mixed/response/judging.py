"""Whether calls were met, and what the programme pays: the obligations' own rules, on what the enrolled miners draw.

A call is an obligation that is deployed so long before it begins; its baseline, its samples and its verdict are those of
`policy.obligations`. The enrolled miners have a meter of their own: AI work that comes and goes beside them does not count.
"""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.economics.programmes import demand_response_revenue_usd
from hcp_pipelines.forecasting.hours import Floats, Ints
from hcp_pipelines.optimizer.backtest.mixed.response.calls import Call, Response
from hcp_pipelines.policy.obligations import SAMPLE_GAP_S, Obligation, Signals, Status, observe, step


@dataclass(frozen=True)
class Judged:
    """By interval what is paid, and what is charged (below zero); and which calls were met."""

    paid_usd: Floats
    penalty_usd: Floats
    is_met: tuple[bool, ...]


def judged(response: Response, starts_us: Ints, step_h: float, load_mw: Floats) -> Judged:
    """The calls of a window, by what the enrolled miners drew in each interval."""
    terms, paid, penalty = response.terms, np.zeros(len(load_mw)), np.zeros(len(load_mw))
    ended = [_ended(response, call, starts_us, load_mw) for call in response.calls]
    for call, obligation in zip(response.calls, ended, strict=True):
        rows, baseline = slice(call.start, call.end), obligation.baseline_mw or 0.0
        paid[rows] += [
            demand_response_revenue_usd(baseline, float(mw), step_h, terms.energy_usd_per_mwh, terms.mw)
            for mw in load_mw[rows]
        ]
        if obligation.status is Status.FAILED:
            short = 1.0 - float(np.clip(obligation.delivery.least, 0.0, 1.0))
            penalty[rows] -= terms.mw * step_h * short * terms.penalty_usd_per_mwh
    is_met = tuple(each.status is Status.SETTLED for each in ended)
    lost = {call.month for call, met in zip(response.calls, is_met, strict=True) if not met and terms.forfeits_month}
    kept = np.where(np.isin(response.month, list(lost)), 0.0, response.capacity_usd)
    steps = len(load_mw) // len(kept)
    return Judged(paid + np.repeat(kept, steps) / steps, penalty, is_met)


def _ended(response: Response, call: Call, starts_us: Ints, load_mw: Floats) -> Obligation:
    """The obligation of a call once it is over: settled or failed."""
    terms = response.terms
    deployed_s, start_s, end_s = (us / 1e6 for us in (call.deployed_us, call.start_us, call.end_us))
    obligation = Obligation(
        0, "", terms.programme, Status.ARMED, terms.mw, deployed_s, end_s, notice_s=start_s - deployed_s,
        duration_s=end_s - start_s, recovery_s=terms.recovery_hours * 3600.0, penalty_usd_per_mwh=terms.penalty_usd_per_mwh,
    )  # fmt: skip
    baseline = min(_read(starts_us, load_mw, deployed_s - 1e-6), _read(starts_us, load_mw, deployed_s))
    signals = Signals(deploy_at_s=deployed_s)
    obligation = step(obligation, deployed_s, signals, baseline)
    for at_s in np.arange(start_s, end_s, SAMPLE_GAP_S):
        obligation = observe(obligation, float(at_s), _read(starts_us, load_mw, float(at_s)))
    while obligation.status not in (Status.SETTLED, Status.FAILED):
        obligation = step(obligation, end_s, signals, baseline)
    return obligation


def _read(starts_us: Ints, load_mw: Floats, at_s: float) -> float:
    """MW at an instant."""
    return float(load_mw[int(np.searchsorted(starts_us, round(at_s * 1e6), side="right")) - 1])
