"""What the agent keeps of a workload and of an operation: plain records and their JSON. What changes them is in `node_agent`."""

import asyncio
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from simulators.clock import iso
from simulators.gpus.requests import Request, parse

CURTAILED, IDLE = 0, 1
STATE_OF_CLASS = {"inference_realtime": 4, "inference_batch": 5, "training": 6}
CLASS_OF_STATE = {state: name for name, state in STATE_OF_CLASS.items()}
STATE_NAMES = {CURTAILED: "parked", IDLE: "idle", **CLASS_OF_STATE}


Json = dict[str, Any]
_KEPT = ("operation_id", "kind", "gpus", "begun_s", "due_s", "state", "ended_s", "problem")


class Phase(StrEnum):
    """Where a workload stands; while it moves from one to another it is in the one it comes from."""

    LOADING = "loading"
    RUNNING = "running"
    PAUSED = "paused"
    CHECKPOINTED = "checkpointed"
    FAILED = "failed"
    STOPPED = "stopped"


LIVE = frozenset({Phase.LOADING, Phase.RUNNING, Phase.PAUSED, Phase.CHECKPOINTED})


@dataclass(slots=True)
class Workload:
    """One workload over some GPUs of one node."""

    workload_id: str
    workload_class: str
    model: str
    gpus: tuple[int, ...]
    is_large: bool
    phase: Phase
    since_s: float
    level: int = 0  # of vLLM's sleep
    method: str = ""  # of the checkpoint: cuda, application
    reason: str = ""
    work: str = ""  # whose it is
    checkpoint: str = ""  # where it went on from
    saved: str = ""  # the newest that it has written itself
    weights_gib: float = 0.0
    load: str = ""

    @property
    def state(self) -> int:
        """The state code of its GPUs while it runs."""
        return STATE_OF_CLASS[self.workload_class]

    @property
    def size(self) -> str:
        """Its row in the table of timings."""
        return "large" if self.is_large else "small"

    def enter(self, phase: Phase, at_s: float, reason: str = "") -> None:
        """Be in another phase from now on."""
        self.phase, self.since_s, self.reason = phase, at_s, reason

    def save(self, at_s: float) -> None:
        """A checkpoint of its own is written; what CUDA keeps in the host's memory is none that others could load."""
        if self.work and self.method == "application":
            self.saved = f"{self.work}/{iso(at_s)}"

    def record(self) -> Json:
        """All of it, to be kept; `workload_of` reads it."""
        return asdict(self)

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "id": self.workload_id,
            "class": self.workload_class,
            "model": self.model,
            "gpus": list(self.gpus),
            "phase": str(self.phase),
            "since": iso(self.since_s),
            "sleep_level": self.level if self.phase is Phase.PAUSED else None,
            "reason": self.reason,
            "work": self.work,
            "checkpoint": self.checkpoint,
            "saved": self.saved,
            "weights_gib": self.weights_gib,
            "load": self.load,
        }


@dataclass(slots=True)
class Operation:
    """One accepted write: running until its time has come, then succeeded or failed. It stays as it then is."""

    operation_id: str
    kind: str
    request: Request
    gpus: tuple[int, ...]
    begun_s: float
    due_s: float
    workloads: tuple[Workload, ...] = ()
    state: str = "running"
    ended_s: float | None = None
    problem: dict[str, object] | None = None
    is_over: asyncio.Event = field(default_factory=asyncio.Event, repr=False, compare=False)

    def record(self) -> Json:
        """All of it, to be kept; `operation_of` reads it."""
        kept = {name: getattr(self, name) for name in _KEPT}
        request = self.request.model_dump(mode="json", by_alias=True)
        return kept | {"request": request, "workloads": [one.workload_id for one in self.workloads]}

    def end(self, at_s: float, problem: dict[str, object] | None = None) -> None:
        """It has succeeded, or failed with a problem."""
        self.state = "failed" if problem else "succeeded"
        self.ended_s, self.problem = at_s, problem
        self.is_over.set()

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "id": self.operation_id,
            "request_id": self.request.request_id,
            "kind": self.kind,
            "gpus": list(self.gpus),
            "state": self.state,
            "begun_at": iso(self.begun_s),
            "expected_end_at": iso(self.due_s),
            "ended_at": None if self.ended_s is None else iso(self.ended_s),
            "workloads": [workload.workload_id for workload in self.workloads],
            "problem": self.problem,
        }


def workload_of(record: Json) -> Workload:
    """The workload of a record."""
    return Workload(**record | {"gpus": tuple(record["gpus"]), "phase": Phase(record["phase"])})


def operation_of(record: Json, workloads: dict[str, Workload]) -> Operation:
    """The operation of a record; of its workloads those that are still known."""
    kept = {name: record[name] for name in _KEPT} | {"gpus": tuple(record["gpus"])}
    request = parse(record["kind"], json.dumps(record["request"]).encode())
    known = tuple(workloads[name] for name in record["workloads"] if name in workloads)
    return Operation(**kept, request=request, workloads=known)
