"""A facility's ramp limits in the words of `policy`, from its inventory: the same for owner and gateway."""

from collections.abc import Sequence

from hcp_pipelines.fleet.inventory import RampBudget
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO
from hcp_pipelines.policy.schema import RampLimit


def ramp_limits(budgets: Sequence[RampBudget], share: float) -> tuple[RampLimit, ...]:
    """A facility's limits; of the portfolio's budget it has its share of the capacity."""
    limits = []
    for budget in budgets:
        scope = {"feeder": budget.scope_id, "facility": FACILITY}.get(budget.scope, PORTFOLIO)
        part = share if scope == PORTFOLIO else 1.0
        limits.append(
            RampLimit(scope=scope, up_mw=budget.up_mw * part, down_mw=budget.down_mw * part, window_s=budget.window_s)
        )
    return tuple(limits)
