"""Objects of the Kubernetes API ↔ values, pure: Jobs of ours, Nodes, the manifests that are sent. Unknown fields are passed over.

Pods are in `pods`. Source: the published API reference, batch/v1 Job and core/v1 Node, and "API concepts" (watch,
resourceVersion, bookmarks).
"""

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.domain.errors import DeviceReplyError
from hcp_pipelines.domain.modes import DeviceState

Json = dict[str, Any]
FACILITY, SLOT, STATE = "hcp.local/facility", "hcp.local/slot", "hcp.local/state"
WORK, CHECKPOINT = "hcp.local/work", "hcp.local/checkpoint"
MERGE_PATCH = "application/merge-patch+json"
CONTAINER = "work"
_GPU = "nvidia.com/gpu"

Shape = TypeVar("Shape", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Image:
    """What runs where a GPU is in a state: the site's choice."""

    image: str
    command: tuple[str, ...] = ()
    grace_s: int = 120  # between the signal to end and the kill: a checkpoint has to fit
    user: int | None = None  # as whom it runs; None: as the image says, which then must be a number other than 0


@dataclass(frozen=True, slots=True)
class Job:
    """A Job of ours as the server has it."""

    name: str
    version: str
    slot: int
    state: DeviceState
    is_suspended: bool
    active: int
    ready: int
    is_going: bool = False  # it is being deleted
    ended: str = ""  # Complete, Failed: it runs no more, and is not resumed
    work: str = ""
    terminating: int = 0  # pods that have been told to end, and have a GPU until they have
    checkpoint: str = ""  # that its pods are told to go on from

    @property
    def is_running(self) -> bool:
        """Whether it may have a GPU, now or soon."""
        return not self.is_suspended and not self.ended and not self.is_going

    @property
    def is_at_rest(self) -> bool:
        """Whether it has no GPU, and gets none unless it is resumed."""
        return not (self.is_running or self.is_going or self.active or self.terminating)


@dataclass(frozen=True, slots=True)
class KubeNode:
    """A node as the server has it."""

    name: str
    addresses: tuple[str, ...]
    is_ready: bool
    is_cordoned: bool


class Camel(BaseModel):
    """Fields by their own names or the API's."""

    model_config = ConfigDict(populate_by_name=True)


class Meta(Camel):
    """What every object has."""

    name: str = Field(max_length=253)
    version: str = Field(alias="resourceVersion", max_length=64)
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    deleted_at: str | None = Field(default=None, alias="deletionTimestamp")


class _Condition(Camel):
    kind: str = Field(alias="type")
    status: str


class _JobSpec(Camel):
    suspend: bool | None = None


class _JobStatus(Camel):
    active: int = 0
    ready: int | None = None
    terminating: int | None = None
    conditions: list[_Condition] = Field(default_factory=list)


class _Job(Camel):
    metadata: Meta
    spec: _JobSpec
    status: _JobStatus = Field(default_factory=_JobStatus)


class _NodeSpec(Camel):
    unschedulable: bool = False


class _Address(Camel):
    kind: str = Field(alias="type")
    address: str


class _NodeStatus(Camel):
    addresses: list[_Address] = Field(default_factory=list)
    conditions: list[_Condition] = Field(default_factory=list)


class _Node(Camel):
    metadata: Meta
    spec: _NodeSpec = Field(default_factory=_NodeSpec)
    status: _NodeStatus = Field(default_factory=_NodeStatus)


class _ListMeta(Camel):
    version: str = Field(alias="resourceVersion", max_length=64)
    more: str = Field(default="", alias="continue")


class _List(Camel):
    metadata: _ListMeta
    items: list[Json] | None = None


def decode_page(body: Json) -> tuple[list[Json], str, str]:
    """(objects, version, token of the next page) of a list."""
    page = checked(body, _List, "a list")
    return page.items or [], page.metadata.version, page.metadata.more


def version_of(body: Json) -> str:
    """The version of an object, as of a bookmark."""
    said = body.get("metadata")
    version = said.get("resourceVersion") if isinstance(said, dict) else None
    if not isinstance(version, str) or not version:
        raise DeviceReplyError(f"an object without a resourceVersion: {str(body)[:80]}")
    return version


def decode_job(body: Json) -> Job | None:
    """A Job; None where it is not one of ours."""
    said = checked(body, _Job, "a Job")
    labels = said.metadata.labels
    slot, state = labels.get(SLOT, ""), labels.get(STATE, "")
    if not (slot.isdecimal() and len(slot) < 10 and state.isdecimal()) or int(state) not in list(DeviceState):
        return None
    ended = next((one.kind for one in said.status.conditions if one.kind in _ENDED and one.status == "True"), "")
    return Job(
        said.metadata.name,
        said.metadata.version,
        int(slot),
        DeviceState(int(state)),
        bool(said.spec.suspend),
        said.status.active,
        said.status.ready or 0,
        said.metadata.deleted_at is not None,
        ended,
        said.metadata.annotations.get(WORK, ""),
        said.status.terminating or 0,
        said.metadata.annotations.get(CHECKPOINT, ""),
    )


def decode_node(body: Json) -> KubeNode:
    """A Node."""
    said = checked(body, _Node, "a Node")
    ready = next((one.status for one in said.status.conditions if one.kind == "Ready"), "Unknown")
    addresses = tuple(one.address for one in said.status.addresses if one.kind == "InternalIP")
    return KubeNode(said.metadata.name, addresses, ready == "True", said.spec.unschedulable)


def job_name(facility: str, slot: int, state: DeviceState, work: str) -> str:
    """A Job's name: the same for the same place, state and work, and one that the API allows.

    >>> job_name("nor_1", 7, DeviceState.TRAINING, "")
    'hcp-7-training-8e2a3ba4'
    """
    digest = hashlib.sha256(f"{facility}/{slot}/{state.value}/{work}".encode()).hexdigest()[:8]
    return f"hcp-{slot}-{state.label.replace('_', '-')}-{digest}"


def encode_job(facility: str, slot: int, state: DeviceState, node: str, image: Image, spec: WorkloadSpec) -> Json:
    """The manifest of a Job that runs at once, on one node, with one GPU, and with no rights in the cluster or on its node.

    Source: the published pod security standards, "restricted".
    """
    labels = {FACILITY: facility, SLOT: str(slot), STATE: str(int(state))}
    notes = {WORK: spec.workload_id, CHECKPOINT: spec.checkpoint}
    told = {"WORK_MODEL": spec.model, "WORK_CHECKPOINT": spec.checkpoint, "WORK_ID": spec.workload_id}
    container = {
        "name": CONTAINER,
        "image": image.image,
        **({"command": list(image.command)} if image.command else {}),
        "env": [{"name": name, "value": value} for name, value in told.items() if value],
        "resources": {"limits": {_GPU: "1"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    user = {} if image.user is None else {"runAsUser": image.user}
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **user},
        "restartPolicy": "OnFailure",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": image.grace_s,
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(facility, slot, state, spec.workload_id),
            "labels": labels,
            "annotations": {name: value for name, value in notes.items() if value},
        },
        "spec": {
            "suspend": False,
            "parallelism": 1,
            "completions": 1,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def encode_delete(version: str) -> Json:
    """Options that have a deletion refused as a conflict where the Job is another version by now."""
    return {"preconditions": {"resourceVersion": version}}


def encode_suspend(version: str, *, is_suspended: bool) -> Json:
    """A merge patch that is refused as a conflict where the Job is another version by now."""
    return {"metadata": {"resourceVersion": version}, "spec": {"suspend": is_suspended}}


_ENDED = ("Complete", "Failed")


def checked(body: Json, shape: type[Shape], name: str) -> Shape:
    """An object in its shape; `name`: "a Job", for the message.

    Raises:
        DeviceReplyError: it has another.
    """
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the object"
        raise DeviceReplyError(f"{name}: {where}: {first['msg']}: {str(body)[:80]}") from error
