"""What can be learnt: targets by name, each in a module of its own that is imported when it is asked for."""

import importlib
from collections.abc import Mapping, Sequence

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.learnable.protocol import Model, Target

# Where each is: `module:attribute`, an instance of `Target`.
_CAPACITY, _LEARNABLE = "hcp_pipelines.forecasting.capacity.targets", "hcp_pipelines.forecasting.learnable.targets"
TARGETS: dict[str, str] = {
    "price": f"{_LEARNABLE}.price:PRICE",
    "demand": f"{_LEARNABLE}.demand:DEMAND",
    "capacity": f"{_CAPACITY}:CAPACITY",
    "failure_risk": f"{_CAPACITY}:FAILURE_RISK",
    "utilization": f"{_CAPACITY}:UTILIZATION",
}
READ_BY: Mapping[str, str] = {
    "price": "core_power__price_quantiles at its next run, and by it the offers of reserves",
    "demand": "core_hcp__demand_quantiles at its next run, and by it policies (room for work to come) and the offers of reserves",
    "capacity": "core_fleet__availability at its next run, which people read",
    "failure_risk": "core_fleet__availability at its next run, which people read",
    "utilization": "core_fleet__planned_use at its next run, whose days the API tells",
}  # who asks a champion; of what is not here nobody does: it is measured and shown
USUAL_DAYS = 90
DAYS: Mapping[str, int] = {"price": 400}  # of history, where a run says nothing else: prices have seasons
# Read at least, whatever is learnt from: what is looked 30 days ahead is tried over 123, by a recipe that learnt before.
TRIED_DAYS: Mapping[str, int] = {"utilization": 246}


def days_of(name: str) -> int:
    """How much of the past a target is usually learnt from."""
    return DAYS.get(name, USUAL_DAYS)


def target_of(name: str, targets: Mapping[str, str] | None = None) -> Target:
    """A target by name.

    Raises:
        ConfigError: there is none of that name.
    """
    known = TARGETS if targets is None else targets
    if name not in known:
        raise ConfigError(f"{name!r} is no target: there are {', '.join(known) or 'none yet'}")
    module, attribute = known[name].split(":")
    found: Target = getattr(importlib.import_module(module), attribute)
    return found


def model_of(models: Sequence[Model], target: str, name: str) -> Model:
    """A target's model by name; the one that ships, its last, where none is named.

    Raises:
        ConfigError: it has none of that name.
    """
    by_name = {each.name: each for each in models}
    if name and name not in by_name:
        raise ConfigError(f"{target} has no model {name!r}: there are {', '.join(by_name)}")
    return by_name[name] if name else models[-1]
