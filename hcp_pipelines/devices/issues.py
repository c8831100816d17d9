"""What can be wrong with a device, in one shape for every kind of it, and how many of a site's devices have it. Pure.

What counts as wrong is said by the tables of limits (`gpu_node.limits`, `miner.limits`), and nowhere else.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Counts = Mapping[tuple[str, str], int]  # devices by (issue_type, severity)


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


def counted(issues: Iterable[DeviceIssue]) -> Counts:
    """How many devices have which issue.

    >>> counted([DeviceIssue("warning", "elevated_temperature", "81 °C")])
    {('elevated_temperature', 'warning'): 1}
    """
    return dict(Counter((issue.issue_type, issue.severity) for issue in issues))
