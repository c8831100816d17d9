"""Bodies of the agent's writes: one strict schema a kind of operation. What they do is in `node_agent`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulators.gpus.config import GPUS_PER_NODE
from simulators.gpus.problems import bad_request

LEAST_CAP_W, MOST_CAP_W = 200.0, 700.0
LARGE_GIB = 60.0  # of weights: more than that is a large model in the tables of `timings`

GpuIndex = Annotated[int, Field(ge=0, lt=GPUS_PER_NODE)]
WorkloadClass = Literal["inference_realtime", "inference_batch", "training"]


class Request(BaseModel):
    """What every write has: an id that makes a repetition harmless."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    request_id: str = Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")


class OnGpus(Request):
    """A write to some GPUs; all of the node where none are named."""

    gpus: list[GpuIndex] | None = Field(default=None, min_length=1, max_length=GPUS_PER_NODE)


class Parking(OnGpus):
    """Afterwards the GPUs are idle, or parked in their lowest power state."""

    park: bool = False


class Start(OnGpus):
    """One workload over all the named GPUs."""

    workload_class: WorkloadClass = Field(alias="class")
    model: str = Field(default="unnamed", min_length=1, max_length=100)
    weights_gib: float = Field(default=16.0, gt=0, le=10_000)
    load: Literal["cold", "streamed"] = "cold"
    replace: bool = False
    work: str = Field(default="", max_length=128, pattern=r"^[A-Za-z0-9._:-]*$")
    checkpoint: str = Field(default="", max_length=500)


class Pause(Parking):
    """vLLM's sleep: level 1 keeps the weights in the host's memory, level 2 drops them."""

    level: Literal[1, 2] = 1


class PowerCap(OnGpus):
    """The board's limit in watts."""

    cap_w: float = Field(ge=LEAST_CAP_W, le=MOST_CAP_W)


class Reset(OnGpus):
    """A reset of GPUs; `force` ends what runs on them."""

    force: bool = False


SCHEMAS: Mapping[str, type[Request]] = {
    "start": Start,
    "pause": Pause,
    "checkpoint": Parking,
    "resume": OnGpus,
    "stop": Parking,
    "power-cap": PowerCap,
    "drain": Request,
    "undrain": Request,
    "reset": Reset,
    "reboot": Request,
}


def parse(kind: str, body: bytes) -> Request:
    """The request of a body.

    Raises:
        ProblemError: not JSON, or a field is wrong.
    """
    try:
        return SCHEMAS[kind].model_validate_json(body)
    except ValidationError as error:
        wrong = [
            {"field": ".".join(str(part) for part in problem["loc"]) or "(body)", "problem": problem["msg"]}
            for problem in error.errors(include_url=False, include_input=False)[:20]
        ]
        detail = f"{kind}: " + "; ".join(f"{one['field']}: {one['problem']}" for one in wrong)
        raise bad_request(detail, errors=wrong) from error
