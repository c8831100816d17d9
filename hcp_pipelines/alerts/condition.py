"""One thing that is wrong, and the labels by which silences name it. Where conditions are looked for is in `conditions.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["info", "warning", "critical"]
LABEL_MAX = 200  # characters of a label's value: longer ones are prose


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now; the same key is the same thing. `about`: what else silences may name it by."""

    key: str
    severity: Severity
    subject: str
    summary: str
    remedy: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """What it is about, by name; the facility is added where its subject is one.

        >>> Condition("devices/hou-1/xid", "critical", "hou-1", "…", about={"issue": "xid"}).labels
        {'issue': 'xid', 'kind': 'devices', 'subject': 'hou-1', 'severity': 'critical'}
        """
        own = {"kind": self.key.partition("/")[0], "subject": self.subject, "severity": self.severity}
        return {**self.about, **own}
