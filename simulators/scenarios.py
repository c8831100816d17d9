"""Scenarios: what differs from a calm world. A hook today (calm, negative-night); files come with the fleet's faults.

Scenario and seed are all that the exogenous log depends on.
"""

from dataclasses import dataclass

from simulators.settings import WorldConfigError


@dataclass(frozen=True, slots=True)
class Scenario:
    """Shifts applied to the generator.

    Attributes:
        night_wind: added to the wind index (standard deviations) at the dead of every local night.
        description: one line for people.
    """

    name: str
    description: str
    night_wind: float = 0.0


_SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("calm", "an ordinary year: evening peaks, some windy nights, rare scarcity"),
        Scenario(
            "negative-night", "every night is windy: negative prices for hours, worst in the west", night_wind=3.0
        ),
    )
}


def scenario_named(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        WorldConfigError: there is none.
    """
    if name not in _SCENARIOS:
        message = f"scenario {name!r} is unknown; there are {', '.join(sorted(_SCENARIOS))}"
        raise WorldConfigError(message)
    return _SCENARIOS[name]
