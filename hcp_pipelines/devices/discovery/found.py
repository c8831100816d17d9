"""What a scan finds. Plain values; making them is `scan`'s work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hcp_pipelines.devices.miner.telemetry import Dialect

OnProgress = Callable[[str, int, int], None]  # pass, done, of so many


@dataclass(frozen=True, slots=True)
class Found:
    """A device that answered. `problem`: what could not be found out, and why."""

    address: str
    dialect: Dialect
    model: str = ""  # as the model table names it
    firmware: str = ""
    mac: str = ""
    serial: str = ""
    problem: str = ""


@dataclass
class Scan:
    """What a scan found, and how long its passes took (real seconds)."""

    addresses: Sequence[str]
    found: list[Found] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)  # take connections and answer none
    probe_s: float = 0.0
    identify_s: float = 0.0

    @property
    def probes_per_s(self) -> float:
        """Addresses a second in the first pass."""
        return len(self.addresses) / self.probe_s if self.probe_s else 0.0

    @property
    def identified_per_s(self) -> float:
        """Devices a second in the second pass."""
        return len(self.found) / self.identify_s if self.identify_s else 0.0
