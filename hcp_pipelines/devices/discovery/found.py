"""What a scan finds. Plain values; making them is `scan`'s and `nodes`' work."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from hcp_pipelines.devices.gpu_node.values import GpuSpecification

TEXT_MAX, BOARDS_MAX = 200, 64
GPU_NODE = "gpu_node"  # beside the miners' dialects

OnProgress = Callable[[str, int, int], None]  # pass, done, of so many
Gate = Callable[[], Awaitable[None]]  # awaited before each connection: how whoever scans keeps its pace


@dataclass(frozen=True, slots=True)
class Found:
    """A device that answered, or a GPU node. `problem`: what could not be found out, and why."""

    address: str
    dialect: str  # a `Dialect`, or GPU_NODE
    model: str = ""  # as the model table names it
    firmware: str = ""  # of a GPU node the driver's version
    mac: str = ""
    serial: str = ""  # of a GPU node its host's name
    problem: str = ""
    boards: tuple[str, ...] = ()  # of a GPU node: uuids by index
    specification: GpuSpecification | None = None  # of each of its boards

    def __post_init__(self) -> None:
        """What a device says of itself goes into logs, messages and tables: short, and nothing that is not a character."""
        for name in ("model", "firmware", "mac", "serial", "problem"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        object.__setattr__(self, "boards", tuple(_plain(board) for board in self.boards[:BOARDS_MAX]))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:TEXT_MAX])


@dataclass
class Scan:
    """What a scan found, and how long its passes took (real seconds)."""

    addresses: Sequence[str]
    found: list[Found] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)  # take connections and answer none
    missed: dict[str, str] = field(default_factory=dict)  # address, and why it could not be looked at from here
    probe_s: float = 0.0
    identify_s: float = 0.0

    @property
    def looked_at(self) -> set[str]:
        """Addresses of which it is known whether somebody is there."""
        return set(self.addresses) - set(self.hung) - set(self.missed)

    @property
    def probes_per_s(self) -> float:
        """Addresses a second in the first pass."""
        return len(self.addresses) / self.probe_s if self.probe_s else 0.0

    @property
    def identified_per_s(self) -> float:
        """Devices a second in the second pass."""
        return len(self.found) / self.identify_s if self.identify_s else 0.0


async def at_once() -> None:
    """The gate of a scan that need not wait for anybody."""


def merge(scans: Sequence[Scan]) -> Scan:
    """Several scans of one site as one. Who answers in one of them is there, though another found nobody."""
    whole = Scan(list(dict.fromkeys(address for scan in scans for address in scan.addresses)))
    for scan in scans:
        whole.found += scan.found
        whole.probe_s += scan.probe_s
        whole.identify_s += scan.identify_s
    there = {one.address for one in whole.found}
    whole.hung = list(dict.fromkeys(a for scan in scans for a in scan.hung if a not in there))
    whole.missed = {a: why for scan in scans for a, why in scan.missed.items() if a not in there}
    return whole
