"""The drivers that a gateway's file can name, with their settings (docs/edge-site-file.md). Making them is in `drivers`."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hcp_pipelines.devices.gpu_node.values import GPUS_PER_NODE
from hcp_pipelines.devices.switches import PHASE_WITHIN_S, Phase
from hcp_pipelines.domain.modes import DeviceState

Port = Annotated[int, Field(ge=1, le=65_535)]
GpuWork = Literal[DeviceState.INFERENCE_REALTIME, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING]


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BulkDriver(Strict):
    """A simulated site's devices over one channel (docs/bulk-channel.md)."""

    kind: Literal["bulk"]
    address: str
    site: str


class MinerApiDriver(Strict):
    """Miners at their own addresses, over their own protocols (docs/devices.md)."""

    kind: Literal["miner_api"]
    poll_period_ms: int = Field(default=5_000, ge=200, le=60_000)
    concurrency: int = Field(default=64, ge=1, le=512)
    deadline_ms: int = Field(default=3_000, ge=100, le=30_000)
    api_port: Port = 4028
    web_port: Port = 80
    v3_port: Port = 4433
    passwords_file: Path | None = None
    meters: str | None = Field(
        default=None, pattern=r"^[^:\s]+:\d+$", description="Modbus TCP of the feeders' breakers."
    )


class Workload(Strict):
    """What a GPU loads where it is to work; one copy goes over so many GPUs of a node."""

    model: str = Field(default="unnamed", min_length=1, max_length=100)
    weights_gib: float = Field(default=16.0, gt=0, le=10_000)
    load: Literal["cold", "streamed"] = "cold"
    gpus_each: int = Field(default=1, ge=1, le=GPUS_PER_NODE)


class PhaseDeadlines(Strict):
    """Within how many seconds a phase of a switch must be done, in the devices' time."""

    pause: float = Field(default=PHASE_WITHIN_S[Phase.PAUSE], ge=0.1, le=3600)
    checkpoint: float = Field(default=PHASE_WITHIN_S[Phase.CHECKPOINT], ge=0.1, le=3600)
    switch: float = Field(default=PHASE_WITHIN_S[Phase.SWITCH], ge=0.1, le=3600)
    start: float = Field(default=PHASE_WITHIN_S[Phase.START], ge=0.1, le=3600)


class GpuNodeDriver(Strict):
    """GPU nodes at their own addresses: exporter and agent (docs/devices.md, docs/gpu-agent.md)."""

    kind: Literal["gpu_node"]
    poll_period_ms: int = Field(default=5_000, ge=200, le=60_000)
    exporter_interval_s: float = Field(default=30.0, ge=0.1, le=3600, description="Simulated, where devices are.")
    concurrency: int = Field(default=64, ge=1, le=512)
    deadline_ms: int = Field(default=5_000, ge=100, le=30_000)
    exporter_port: Port = 9400
    agent_port: Port = 9401
    token_file: Path | None = Field(default=None, description="With `{address}` in it: a file a node.")
    token_over_http: bool = Field(default=False, description="Also beyond this machine: their network is closed.")
    xid_actions: Literal["observe", "act"] = "observe"
    board_idle_w: float | None = Field(default=None, gt=0, le=5_000)
    board_busy_w: float | None = Field(default=None, gt=0, le=5_000)
    workloads: dict[GpuWork, Workload] = Field(default_factory=dict)
    phase_within_s: PhaseDeadlines = PhaseDeadlines()

    def period_ms(self, speed: float) -> int:
        """Real milliseconds between two readings: as polled, but never oftener than there is something new to read.

        >>> [GpuNodeDriver(kind="gpu_node").period_ms(speed) for speed in (1.0, 60.0)]
        [30000, 5000]
        """
        return max(self.poll_period_ms, round(self.exporter_interval_s * 1000 / speed))

    def work_in(self) -> dict[DeviceState, Workload]:
        """What is loaded for each state in which a GPU works."""
        return {state: self.workloads.get(state, Workload()) for state in get_args(GpuWork)}

    def addresses_for(self, gpus: int) -> int:
        """How many nodes so many GPUs fill."""
        return -(-gpus // GPUS_PER_NODE)


class ImageConfig(Strict):
    """What a pod runs where a GPU is in a state."""

    image: str = Field(min_length=1, max_length=500, pattern=r"^[A-Za-z0-9][^\s]*$")
    command: tuple[str, ...] = ()
    grace_s: int = Field(default=120, ge=0, le=3600, description="From the signal to end to the kill.")
    user: int | None = Field(default=None, ge=1, le=2**31 - 1, description="As whom it runs; never as root.")


class KubernetesDriver(Strict):
    """GPU nodes of a Kubernetes cluster: Jobs that are suspended and resumed (docs/devices.md)."""

    kind: Literal["kubernetes"]
    api: str = Field(pattern=r"^https://[^\s/]+$")
    ca_file: Path | None = Field(default=None, description="Who signed the API server's certificate.")
    token_file: Path
    namespace: str = Field(default="hcp", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    images: dict[GpuWork, ImageConfig] = Field(min_length=1)
    workloads: dict[GpuWork, Workload] = Field(default_factory=dict)
    poll_period_ms: int = Field(default=5_000, ge=200, le=60_000)
    exporter_interval_s: float = Field(default=30.0, ge=0.1, le=3600)
    concurrency: int = Field(default=32, ge=1, le=512)
    deadline_ms: int = Field(default=5_000, ge=100, le=30_000)
    exporter_port: Port = 9400
    board_idle_w: float | None = Field(default=None, gt=0, le=5_000)
    board_busy_w: float | None = Field(default=None, gt=0, le=5_000)
    phase_within_s: PhaseDeadlines = PhaseDeadlines()
    jobs_kept_s: float = Field(default=21_600.0, ge=1, le=30 * 86_400, description="Real; then Jobs at rest go.")

    def period_ms(self, speed: float) -> int:
        """Real milliseconds between two readings: as polled, but never oftener than there is something new to read."""
        return max(self.poll_period_ms, round(self.exporter_interval_s * 1000 / speed))

    def addresses_for(self, gpus: int) -> int:
        """How many nodes so many GPUs fill."""
        return -(-gpus // GPUS_PER_NODE)

    @field_validator("workloads")
    @classmethod
    def _one_gpu_each(cls, workloads: dict[GpuWork, Workload]) -> dict[GpuWork, Workload]:
        if any(work.gpus_each != 1 for work in workloads.values()):
            raise ValueError("workloads: a Job has one GPU here: gpus_each is 1")
        return workloads


DriverConfig = Annotated[BulkDriver | MinerApiDriver | GpuNodeDriver | KubernetesDriver, Field(discriminator="kind")]
