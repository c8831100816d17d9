"""How a facility file says that devices are reached: by which driver, at which addresses. What a gateway does is in `edge`."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.gpu_node.values import GPUS_PER_NODE
from hcp_pipelines.devices.settling import family
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.parts import Part, StateLabel

DriverKind = Literal["bulk", "miner_api", "gpu_node"]
GPU_STATES = frozenset(DeviceState) - {DeviceState.MINING_ECO, DeviceState.MINING_FULL}
GPU_WORK = GPU_STATES - {DeviceState.CURTAILED, DeviceState.IDLE}
DRIVEN_FIRMWARE = ("stock", "whatsminer", "whatsminer-v3", "luxos")  # by miner_api


class MinerApi(Part):
    """How miners at addresses of their own are spoken to; what is left out is the driver's default (docs/edge-site-file.md)."""

    poll_period_ms: int | None = Field(default=None, ge=200, le=60_000)
    concurrency: int | None = Field(default=None, ge=1, le=512)
    deadline_ms: int | None = Field(default=None, ge=100, le=30_000)
    api_port: int | None = Field(default=None, ge=1, le=65_535)
    web_port: int | None = Field(default=None, ge=1, le=65_535)
    v3_port: int | None = Field(default=None, ge=1, le=65_535)
    passwords_file: str | None = None
    meters: str | None = Field(default=None, pattern=r"^[^:\s]+:\d+$")


def _is_work(state: DeviceState) -> DeviceState:
    if state not in GPU_WORK:
        raise ValueError(f"a GPU loads nothing for {state.label}; use {', '.join(s.label for s in sorted(GPU_WORK))}")
    return state


GpuWork = Annotated[StateLabel, AfterValidator(_is_work)]


class Workload(Part):
    """What a GPU loads for a state; what is left out is the driver's default."""

    model: str | None = Field(default=None, min_length=1, max_length=100)
    weights_gib: float | None = Field(default=None, gt=0, le=10_000)
    load: Literal["cold", "streamed"] | None = None
    gpus_each: int | None = Field(default=None, ge=1, le=GPUS_PER_NODE)


class PhaseDeadlines(Part):
    """Within how many seconds of the devices' time a phase of a switch must be done; left out: the driver's default."""

    pause: float | None = Field(default=None, ge=0.1, le=3600)
    checkpoint: float | None = Field(default=None, ge=0.1, le=3600)
    switch: float | None = Field(default=None, ge=0.1, le=3600)
    start: float | None = Field(default=None, ge=0.1, le=3600)


class GpuNodes(Part):
    """How GPU nodes at addresses of their own are spoken to; what is left out is the driver's default."""

    poll_period_ms: int | None = Field(default=None, ge=200, le=60_000)
    exporter_interval_s: float | None = Field(default=None, ge=0.1, le=3600)
    concurrency: int | None = Field(default=None, ge=1, le=512)
    deadline_ms: int | None = Field(default=None, ge=100, le=30_000)
    exporter_port: int | None = Field(default=None, ge=1, le=65_535)
    agent_port: int | None = Field(default=None, ge=1, le=65_535)
    token_file: str | None = None
    token_over_http: bool | None = None
    xid_actions: Literal["observe", "act"] | None = None
    board_idle_w: float | None = Field(default=None, gt=0, le=5_000)
    board_busy_w: float | None = Field(default=None, gt=0, le=5_000)
    phase_within_s: PhaseDeadlines | None = None
    workloads: dict[GpuWork, Workload] = Field(default_factory=dict)

    @property
    def weights_gib(self) -> dict[DeviceState, float]:
        """Weights by state, where the file says how large they are."""
        return {state: work.weights_gib for state, work in self.workloads.items() if work.weights_gib is not None}


class Reach(NamedTuple):
    """What decides whether a group's devices can be reached."""

    group_id: str
    type: str
    firmware: str
    devices: int
    driver: DriverKind
    addresses: tuple[str, ...]
    states: frozenset[DeviceState]


def check_reach(groups: Iterable[Reach]) -> None:
    """Look for groups whose driver can't reach them.

    Raises:
        ValueError: a driver that doesn't know the devices, too few or too many addresses, or one that is there twice.
    """
    seen: dict[str, str] = {}
    for group in groups:
        addresses = expand(group.addresses)
        if group.driver == "miner_api":
            _check_miners(group, len(addresses))
        elif group.driver == "gpu_node":
            _check_nodes(group, len(addresses))
        for address in addresses:
            if address in seen:
                raise ValueError(f"{address} is in group {seen[address]} and in group {group.group_id}")
            seen[address] = group.group_id


def _check_miners(group: Reach, addresses: int) -> None:
    if group.type != "ASIC" or family(group.firmware) not in DRIVEN_FIRMWARE:
        raise ValueError(
            f"group {group.group_id}: miner_api drives ASICs with {', '.join(DRIVEN_FIRMWARE)}, "
            f"not {group.type} with {group.firmware}"
        )
    if addresses != group.devices:
        raise ValueError(f"group {group.group_id} has {group.devices} devices and {addresses} addresses")


def _check_nodes(group: Reach, addresses: int) -> None:
    if group.type != "GPU" or not group.states <= GPU_STATES:
        raise ValueError(f"group {group.group_id}: gpu_node drives GPUs, with states in which no bitcoin is mined")
    nodes = -(-group.devices // GPUS_PER_NODE)
    if addresses != nodes:
        raise ValueError(
            f"group {group.group_id} has {group.devices} GPUs, {GPUS_PER_NODE} a node, and {addresses} addresses; "
            f"it needs {nodes}, one a node"
        )


def check_weights(group_id: str, model: str, memory_gb: float, workloads: Mapping[DeviceState, Workload]) -> None:
    """Look for weights that a group's boards can't hold; what a file leaves out is small.

    Raises:
        ValueError: weights that would be loaded onto it are more than it has memory.
    """
    for state, work in workloads.items():
        gpus_each = work.gpus_each or 1
        part_gib = (work.weights_gib or 0.0) / gpus_each
        if memory_gb and part_gib > memory_gb:
            raise ValueError(
                f"gpu_node.workloads.{state.label}: {work.weights_gib:g} GiB over {gpus_each} GPUs are {part_gib:g} on each; "
                f"{model} of group {group_id} has {memory_gb:g}: raise gpus_each"
            )
