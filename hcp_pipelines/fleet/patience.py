"""When a scan is believed: who is missing must be so for some scans in a row, and one in which many are gone at once waits. Pure.

A reboot takes minutes, and a fault of the network between gateway and devices looks like a site that is gone. One object a
facility; what it remembers is lost with the process, and then vanishing takes the same number of scans again.
"""

from dataclasses import dataclass

from hcp_pipelines.fleet.discovery_rules import DiscoveryRules
from hcp_pipelines.fleet.reconcile import Reconciliation

SAME_FRACTION = 0.5  # of those missing that must be missing in the scan before as well, for it to say the same


@dataclass(frozen=True, slots=True)
class Verdict:
    """`held`: why nothing of a scan is believed for now, empty if it is; `gone`: slots of those that have vanished."""

    held: str
    gone: frozenset[int] = frozenset()


class Patience:
    """What the last scans of a facility said."""

    def __init__(self) -> None:
        self._scans_missed: dict[int, int] = {}
        self._last_missing: frozenset[int] = frozenset()

    def judge(self, found: Reconciliation, answered: int, rules: DiscoveryRules) -> Verdict:
        """What to believe of a scan in which so many answered, of known devices or others."""
        missing, before = found.vanished, self._last_missing
        self._last_missing = missing
        if missing and not answered:
            return Verdict(f"nobody answers, {len(missing)} were there: the network, not the devices")
        share = len(missing) / found.were_present if found.were_present else 0.0
        if share > rules.held_above_fraction and len(missing & before) <= SAME_FRACTION * len(missing):
            return Verdict(
                f"{len(missing)} of {found.were_present} are gone at once: until the next scan says the same"
            )
        self._scans_missed = {slot: self._scans_missed.get(slot, 0) + 1 for slot in missing}
        gone = {slot for slot, scans in self._scans_missed.items() if scans >= rules.vanished_after_scans}
        return Verdict("", frozenset(gone))
