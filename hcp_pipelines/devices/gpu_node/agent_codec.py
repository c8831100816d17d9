"""The agent's JSON ↔ values, pure (docs/gpu-agent.md). Unknown members are passed over: the agent may grow within version 1.

A refusal comes as a problem document: 401 and 403 and most conflicts are *refused*, `busy` alone is *later*.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcp_pipelines.devices.gpu_node.transport import Answer
from hcp_pipelines.devices.gpu_node.values import (
    GpuSpecification,
    GpuStatus,
    NodeIdentity,
    Operation,
    WorkloadSpec,
)
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, NotNowError, WorkUnfitError
from hcp_pipelines.domain.modes import DeviceState

STATE_OF_NAME = {
    "parked": DeviceState.CURTAILED,
    "idle": DeviceState.IDLE,
    "inference_realtime": DeviceState.INFERENCE_REALTIME,
    "inference_batch": DeviceState.INFERENCE_BATCH,
    "training": DeviceState.TRAINING,
}
CLASS_OF_STATE = {state: name for name, state in STATE_OF_NAME.items() if state not in (0, 1)}
_GIB = 1024

PASSES = frozenset({"drained"})  # beside "busy"
WORKS_OWN = frozenset(
    {"does-not-fit", "no-such-model", "bad-checkpoint"}
)  # problems that are the work's, not the node's

Shape = TypeVar("Shape", bound=BaseModel)


class BusyError(NotNowError):
    """Something is under way on that GPU: ask again later, don't quarantine."""


Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]  # it goes into paths and logs


Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Watts = Annotated[float, Field(ge=0, le=5000, allow_inf_nan=False)]


class _Workload(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    identity: Identity = Field(alias="id")
    workload_class: str = Field(alias="class")
    phase: str
    gpus: list[int] = Field(max_length=64)
    model: Text = ""
    work: str = Field(default="", max_length=128)
    weights_gib: float = Field(default=0.0, ge=0, le=10_000, allow_inf_nan=False)
    load: str = Field(default="", max_length=20)
    checkpoint: str = Field(default="", max_length=500)
    saved: str = Field(default="", max_length=500)


class _Gpu(BaseModel):
    gpu: int = Field(ge=0, lt=64)
    uuid: str
    health: str
    state: str | None = None
    power_w: Watts | None = None
    power_cap_w: Watts | None = None
    operation: str | None = None
    workload: _Workload | None = None


class _Gpus(BaseModel):
    gpus: list[_Gpu] = Field(max_length=64)
    is_drained: bool | None = None


class _Node(BaseModel):
    api_version: Text
    hostname: Text
    driver_version: Text
    gpu_model: Text
    compute_capability: Text
    memory_mib: float = Field(ge=0, le=1e7, allow_inf_nan=False)
    power_cap_bounds_w: tuple[Watts, Watts]
    states: list[Text] = Field(max_length=20)
    is_drained: bool


class _Operation(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    identity: Identity = Field(alias="id")
    kind: str = Field(max_length=100)
    gpus: list[int] = Field(max_length=64)
    state: Literal["running", "succeeded", "failed"]
    problem: dict[str, Any] | None = None
    begun_at: datetime | None = None
    ended_at: datetime | None = None


def decode_gpus(answer: Answer, address: str) -> tuple[GpuStatus, ...]:
    """`GET /v1/gpus`, by rising index."""
    said = _checked(answer, _Gpus, address)
    return tuple(_status(gpu, is_drained=said.is_drained) for gpu in sorted(said.gpus, key=lambda gpu: gpu.gpu))


def decode_identity(node: Answer, gpus: tuple[GpuStatus, ...], address: str) -> NodeIdentity:
    """`GET /v1/node`, with the boards of `GET /v1/gpus`."""
    said = _checked(node, _Node, address)
    least_w, most_w = said.power_cap_bounds_w
    memory_gb = round(said.memory_mib / _GIB, 1)
    return NodeIdentity(
        said.hostname,
        said.driver_version,
        said.api_version,
        tuple(gpu.uuid for gpu in gpus),
        GpuSpecification(said.gpu_model, memory_gb, said.compute_capability, most_w, least_w),
        said.is_drained,
        frozenset(STATE_OF_NAME[name] for name in said.states if name in STATE_OF_NAME),
    )


def decode_is_drained(node: Answer, address: str) -> bool:
    """Whether a node takes no new work, by `GET /v1/node`."""
    return _checked(node, _Node, address).is_drained


def decode_operation(answer: Answer, address: str) -> Operation:
    """The reply to a write, or `GET /v1/operations/…`."""
    said = _checked(answer, _Operation, address)
    problem, kind = str((said.problem or {}).get("detail", "")), _kind_of(said.problem or {})
    took_s = (said.ended_at - said.begun_at).total_seconds() if said.begun_at and said.ended_at else 0.0
    return Operation(
        said.identity, said.kind, tuple(said.gpus), said.state, problem, max(took_s, 0.0), kind in WORKS_OWN
    )


def encode_write(request_id: str, gpus: tuple[int, ...] | None = None, **members: object) -> bytes:
    """The body of a write.

    >>> encode_write("r-1234567", (0, 1), park=True)
    b'{"request_id": "r-1234567", "gpus": [0, 1], "park": true}'
    """
    on = {} if gpus is None else {"gpus": list(gpus)}
    return json.dumps({"request_id": request_id, **on, **members}).encode()


def encode_start(request_id: str, gpus: tuple[int, ...], state: DeviceState, spec: WorkloadSpec) -> bytes:
    """The body of a start: what was there before is replaced. Whose work it is is named only where it is somebody's."""
    named = {"work": spec.workload_id, "checkpoint": spec.checkpoint}
    return encode_write(
        request_id,
        gpus,
        **{"class": CLASS_OF_STATE[state]},
        model=spec.model,
        weights_gib=spec.weights_gib,
        load=spec.load,
        replace=True,
        **{name: value for name, value in named.items() if value},
    )


def _status(gpu: _Gpu, *, is_drained: bool | None) -> GpuStatus:
    workload = gpu.workload
    return GpuStatus(
        gpu.gpu,
        gpu.uuid,
        gpu.health,
        STATE_OF_NAME.get(gpu.state or ""),
        gpu.power_w,
        gpu.power_cap_w,
        gpu.operation,
        workload.identity if workload else None,
        workload.workload_class if workload else None,
        workload.phase if workload else None,
        tuple(workload.gpus) if workload else (),
        workload.model if workload else "",
        workload.work if workload else "",
        workload.weights_gib if workload else 0.0,
        workload.load if workload else "",
        workload.checkpoint if workload else "",
        workload.saved if workload else "",
        is_drained,
    )


def _checked(answer: Answer, shape: type[Shape], address: str) -> Shape:
    """The body in its shape.

    Raises:
        DeviceRefusedError: the agent says no.
        DeviceReplyError: what it says is not of that shape.
    """
    if not 200 <= answer.status < 300:
        _raise_problem(answer, address)
    try:
        return shape.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise DeviceReplyError(f"{address}: {where}: {first['msg']}: {answer.body[:80]!r}") from error


def _raise_problem(answer: Answer, address: str) -> None:
    """A status that is no success."""
    said = _problem(answer)
    kind = _kind_of(said) or "no reason"
    text = f"{address}: {answer.status} {kind}: {str(said.get('detail', answer.body[:200]))[:300]}"
    if kind == "busy":
        raise BusyError(text)
    if kind in PASSES:
        raise NotNowError(text)
    if kind in WORKS_OWN:
        raise WorkUnfitError(str(said.get("detail", kind))[:300])
    if 400 <= answer.status < 500:
        raise DeviceRefusedError(text)
    raise DeviceReplyError(text)


def _kind_of(said: Mapping[str, Any]) -> str:
    return str(said.get("type", "")).rpartition(":")[2]


def _problem(answer: Answer) -> Mapping[str, Any]:
    if not answer.content_type.startswith("application/problem+json"):
        return {}
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
