"""Who obeys a call: the rule that never does, the one that always does, and the one that does where dollars say so.

What is asked of the enrolled miners is an order by interval: 1 on in full, -1 off, 0 as they like.
"""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from hcp_pipelines.economics.programmes import event_net_usd_per_mw
from hcp_pipelines.optimizer.backtest.mixed.response.calls import Call, Response
from hcp_pipelines.optimizer.backtest.mixed.world import World

Orders = npt.NDArray[np.int8]


class Obeys(StrEnum):
    """What is done about calls."""

    NEVER = "never"
    ALWAYS = "always"
    PAID = "paid"  # where what is paid and not charged is worth more than mining on


def orders(world: World, obeys: Obeys) -> Orders:
    """[t] what is asked of the enrolled miners, as known when each interval begins."""
    response = world.response
    if response is None or obeys is Obeys.NEVER:
        return ordered(len(world), ())
    calls = response.calls
    return ordered(len(world), calls if obeys is Obeys.ALWAYS else paid_calls(world, response))


def ordered(intervals: int, obeyed: Sequence[Call]) -> Orders:
    """[t] orders that meet the calls: on as the meter is read, off from the beginning to the end."""
    asked = np.zeros(intervals, dtype=np.int8)
    for call in obeyed:
        asked[call.hold : call.start] = 1
    for call in obeyed:
        asked[call.start : call.end] = -1
    return asked


def paid_calls(world: World, response: Response) -> list[Call]:
    """Calls that are worth obeying, as looked at when each is told; a month with one that was let go is taken for lost."""
    obeyed, lost = [], set()
    for call in response.calls:
        if _net_usd(world, response, call, is_lost=call.month in lost) > 0:
            obeyed.append(call)
        else:
            lost.add(call.month)
    return obeyed


def _net_usd(world: World, response: Response, call: Call, *, is_lost: bool) -> float:
    """Dollars that obeying is expected to bring over mining on, at day-ahead prices and what a peak may add to them."""
    terms, hours = response.terms, (call.end - call.start) * world.step_h
    capacity = terms.capacity_usd_per_mw_month if terms.forfeits_month and not is_lost else 0.0
    net = terms.mw * (hours * terms.penalty_usd_per_mwh + capacity)
    for g in np.flatnonzero(response.is_enrolled):
        case = world.cases[g]
        revenue, wake = (float(column[call.told]) for column in (case.known.revenue_usd_per_mwh, case.known.wake_usd))
        margin = revenue - _expected_price(world, int(g), call)
        held, off = np.split(margin, [call.start - call.hold])
        kept_usd = float(np.maximum(-held, 0.0).sum()) * world.step_h
        forgone = float(np.maximum(off, 0.0).mean())
        per_mw = event_net_usd_per_mw(forgone, hours, terms.energy_usd_per_mwh, wake if forgone > 0 else 0.0)
        net += world.site.groups[g].mw * (per_mw - kept_usd)
    return net


def _expected_price(world: World, g: int, call: Call) -> np.ndarray:
    """$/MWh of the intervals from where it has to be on to the end; where no day-ahead price is recorded, the newest known."""
    case, rows = world.cases[g], slice(call.hold, call.end)
    newest = float(np.nan_to_num(case.known.price_usd_per_mwh[call.told]))
    expected = np.where(np.isfinite(case.day_ahead[rows]), case.day_ahead[rows], newest)
    peak = np.repeat(world.p_peak_ahead, world.steps)[rows] * world.site.peaks.usd_per_mw
    return expected + peak
