"""One node's agent: accepts or refuses writes, remembers them, and ends each when its time has come.

Pure state and simulated time: no sockets, no tasks. A GPU has at most one operation at a time; the same request id twice is the
same operation. What a write does is in `planning`; what outlives the world's process is written by `agents`.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from simulators.durability import TransitionLog
from simulators.gpus.hardware import Hardware
from simulators.gpus.nodes import Node
from simulators.gpus.planning import Planner
from simulators.gpus.problems import ProblemError, conflict
from simulators.gpus.requests import OnGpus, Request
from simulators.gpus.timings import duration_s
from simulators.gpus.workload_table import WorkloadTable
from simulators.gpus.workloads import Operation, Workload, operation_of, workload_of

MAX_ENDED = 256  # operations that ended and are still remembered: the oldest is forgotten first
Json = dict[str, Any]


class NodeAgent:
    """The agent of one node."""

    def __init__(self, node: Node, seed: int, transitions: TransitionLog, unreadable: Collection[str] = ()) -> None:
        self.node = node
        self.hardware = Hardware(node, transitions)
        self._restarted_s = 0.0  # by an operation of its own
        self.operations: OrderedDict[str, Operation] = OrderedDict()
        self._seed = seed
        self._table = WorkloadTable(node, self.hardware)
        self._planner = Planner(node, self.hardware, self._table, unreadable)
        self._by_request: dict[str, Operation] = {}
        self._busy: dict[int, Operation] = {}
        self._rebooting: Operation | None = None

    @property
    def booted_s(self) -> float:
        """When its host last had booted, whether somebody asked it or not."""
        return max(self._restarted_s, self.node.site.booted_s(self.node.first_slot))

    @property
    def is_drained(self) -> bool:
        """Whether it takes no new work."""
        return self._planner.is_drained

    def is_up(self, at_s: float) -> bool:
        """Whether the host answers."""
        return self._rebooting is None and self.hardware.is_there(at_s)

    def submit(self, kind: str, request: Request, at_s: float) -> tuple[Operation, bool]:
        """Accept a write: the operation, and whether it is new.

        Raises:
            ProblemError: it is refused, and nothing has changed.
        """
        known = self._by_request.get(request.request_id)
        if known is not None:
            if known.kind != kind or known.request != request:
                detail = f"request_id {request.request_id} was used for another request; take a new one"
                raise conflict("request-id-reused", detail, operation=known.operation_id)
            return known, False
        gpus = self._gpus(request)
        if kind not in ("drain", "undrain"):
            self._check_free(gpus)
        self._table.look_after(self._busy, at_s)
        return self._begin(kind, request, gpus, at_s), True

    def finish(self, operation: Operation, at_s: float) -> None:
        """End an operation whose time has come; again does nothing."""
        if operation.state != "running":
            return
        self._busy = {index: one for index, one in self._busy.items() if one is not operation}
        if operation is self._rebooting:
            self._rebooting, self._restarted_s = None, at_s
        try:
            self._planner.finish(operation, at_s)
        except ProblemError as problem:
            operation.end(at_s, problem.document())
        else:
            operation.end(at_s)

    def work_lost(self, gpus: Collection[int], xid: int, at_s: float) -> None:
        """An XID has ended what ran on some GPUs."""
        self._table.struck(gpus, xid, at_s)

    def lose_power(self, at_s: float) -> None:
        """The host was without power and begins to boot: operations under way have failed, and nothing runs any more."""
        reason = "the node lost its power"
        self._planner.lose_power(tuple(gpu.number for gpu in self.node.gpus), at_s, reason)
        for operation in self.operations.values():
            if operation.state == "running":
                operation.end(at_s, conflict("gpu-lost", reason).document())
        self._busy, self._rebooting = {}, None

    def record(self) -> Json:
        """What outlives the world, but for the operations, which have records of their own."""
        workloads = [one.record() for one in self._table.everything()]
        more = {"is_drained": self.is_drained, "resets": self.hardware.resets}
        return {"booted_s": self._restarted_s, "workloads": workloads} | more

    def restore(self, record: Json, operations: Iterable[Json]) -> None:
        """Be what an earlier process has left."""
        workloads = [workload_of(one) for one in record["workloads"]]
        self._table.restore(workloads)
        self._restarted_s, self._planner.is_drained = record["booted_s"], record["is_drained"]
        self.hardware.resets = list(record["resets"])
        for one in operations:
            self._remember(operation_of(one, {each.workload_id: each for each in workloads}))

    def workloads(self, at_s: float) -> list[Workload]:
        """What is on this node; those that failed or were ended by others are among them for a while."""
        self._table.look_after(self._busy, at_s)
        return self._table.everything()

    def operation_of(self, index: int) -> Operation | None:
        """What a GPU is busy with."""
        return self._busy.get(index)

    def _begin(self, kind: str, request: Request, gpus: tuple[int, ...], at_s: float) -> Operation:
        plan = self._planner.plan(kind, request, gpus, at_s)
        site, slot = self.node.site.config.site, self.node.first_slot
        lasts_s = duration_s(self._seed, plan.row, site, slot, request.request_id) if plan.row else 0.0
        identity = f"op-{uuid5(NAMESPACE_URL, f'{self.node.hostname}/{request.request_id}').hex[:12]}"
        operation = Operation(identity, kind, request, gpus, at_s, at_s + lasts_s, plan.workloads)
        self._remember(operation)
        if not plan.row:
            self.finish(operation, at_s)
        if kind == "reboot":
            self._planner.go_down(gpus, at_s)
        self._forget()
        return operation

    def _remember(self, operation: Operation) -> None:
        self._by_request[operation.request.request_id] = self.operations[operation.operation_id] = operation
        if operation.state == "running" and operation.kind not in ("drain", "undrain"):
            self._busy.update(dict.fromkeys(operation.gpus, operation))
        if operation.state == "running" and operation.kind == "reboot":
            self._rebooting = operation

    def _gpus(self, request: Request) -> tuple[int, ...]:
        everyone = tuple(gpu.number for gpu in self.node.gpus)
        if not isinstance(request, OnGpus) or request.gpus is None:
            return everyone
        missing = sorted(set(request.gpus) - set(everyone))
        if missing:
            detail = f"this node has GPUs 0 to {len(everyone) - 1}, not {', '.join(map(str, missing))}"
            raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-gpu", detail)
        return tuple(sorted(set(request.gpus)))

    def _check_free(self, gpus: tuple[int, ...]) -> None:
        for index in gpus:
            if index in self._busy:
                busy = self._busy[index]
                detail = f"GPU {index} is busy with {busy.kind} {busy.operation_id}; wait for its end"
                raise conflict("busy", detail, operation=busy.operation_id)

    def _forget(self) -> None:
        ended = [one for one in self.operations.values() if one.state != "running"]
        for one in ended[: max(0, len(ended) - MAX_ENDED)]:
            del self.operations[one.operation_id]
            del self._by_request[one.request.request_id]
