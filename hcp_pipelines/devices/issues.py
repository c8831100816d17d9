"""What can be wrong with a device, in one shape for every kind of it, and which of a site's devices have it. Pure.

What counts as wrong is said by the tables of limits (`gpu_node.limits`, `miner.limits`), and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hcp_pipelines.wire.slots import EMPTY, Slots

ByIssue = Mapping[tuple[str, str], Slots]  # who has it, rising, by (issue_type, severity)


@dataclass(frozen=True, slots=True)
class DeviceIssue:
    """One thing that is wrong: `severity` is warning or critical."""

    severity: str
    issue_type: str
    message: str


def is_too_hot(issues: Iterable[DeviceIssue]) -> bool:
    """Whether a device is above the temperature at which its model has to stop.

    >>> is_too_hot([DeviceIssue("warning", "elevated_temperature", "81 °C")])
    False
    """
    return any((issue.issue_type, issue.severity) == ("high_temperature", "critical") for issue in issues)


def by_issue(found: Iterable[tuple[int, DeviceIssue]]) -> ByIssue:
    """Which slots have which issue.

    >>> by_issue([(7, DeviceIssue("warning", "elevated_temperature", "81 °C"))])
    {('elevated_temperature', 'warning'): array([7], dtype=uint32)}
    """
    slots: dict[tuple[str, str], list[int]] = {}
    for slot, issue in found:
        slots.setdefault((issue.issue_type, issue.severity), []).append(slot)
    return {key: np.unique(np.array(of_it, dtype=np.uint32)) for key, of_it in slots.items()}


class IssueLog:
    """Says in the log that an issue has come up among a site's devices, in the words of the first one, and that it is over."""

    def __init__(self, log: Any) -> None:
        """`log`: the driver's."""
        self._log = log
        self._there: set[tuple[str, str]] = set()

    def take(self, found: Iterable[tuple[int, DeviceIssue]]) -> ByIssue:
        """`by_issue` of what a round has found."""
        listed = list(found)
        first: dict[tuple[str, str], tuple[int, DeviceIssue]] = {}
        for slot, issue in listed:
            first.setdefault((issue.issue_type, issue.severity), (slot, issue))
        for key in first.keys() - self._there:
            slot, issue = first[key]
            # What may pass by itself is no warning: a GPU that wakes is slow for a second.
            say = self._log.warning if issue.severity == "critical" else self._log.info
            say("devices have an issue", issue=key[0], severity=key[1], slot=slot, said=issue.message)
        for kind, severity in self._there - first.keys():
            self._log.info("no device has the issue any more", issue=kind, severity=severity)
        self._there = set(first)
        return by_issue(listed)


def joined(parts: Iterable[ByIssue]) -> ByIssue:
    """Those of several sites, whose slots are their own."""
    found = list(parts)
    keys = dict.fromkeys(key for part in found for key in part)
    return {key: np.unique(np.concatenate([part.get(key, EMPTY) for part in found])) for key in keys}
