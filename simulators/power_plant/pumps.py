"""When a scenario lets a site's cooling pumps fail. Pure functions of the instant; what follows is in `cooling` and `plant`."""

from simulators.script import Script


class PumpScript:
    """The pump failures of one site, by its number."""

    def __init__(self, script: Script | None, site: int) -> None:
        self._script, self._site = script, site

    def failed_at(self, at_s: float) -> frozenset[int]:
        """Numbers of the pumps that stand still."""
        if self._script is None:
            return frozenset()
        return frozenset(pump for pump, since_s, until_s in self._near(at_s, at_s) if since_s <= at_s < until_s)

    def changes_s(self, first_s: float, last_s: float) -> list[float]:
        """Instants in (first, last] at which one fails or runs again."""
        near = self._near(first_s, last_s)
        return sorted({at_s for _, *ends in near for at_s in ends if first_s < at_s <= last_s})

    def _near(self, first_s: float, last_s: float) -> list[tuple[int, float, float]]:
        return self._script.pumps_between(self._site, first_s, last_s) if self._script else []
