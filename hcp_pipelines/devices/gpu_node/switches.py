"""Which switches of a site are under way: begun for a command, gone on with when it is told again. Phases are in `switching`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from hcp_pipelines.devices.again import Tasks
from hcp_pipelines.devices.gpu_node.agent_codec import CLASS_OF_STATE
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions, Node
from hcp_pipelines.devices.gpu_node.steps import Gpus, switched_together
from hcp_pipelines.devices.gpu_node.switching import Order, Run
from hcp_pipelines.devices.gpu_node.values import GpuStatus, WorkloadSpec
from hcp_pipelines.devices.switches import Key, Stage, Switch, SwitchBook
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import DeviceRefusedError, StorageError
from hcp_pipelines.domain.modes import DeviceState

_STATE_OF_CLASS = {name: state for state, name in CLASS_OF_STATE.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A command's assignment at a node."""

    command_id: str
    index: int
    state: DeviceState
    ticket: int
    request_id: str
    work: WorkloadSpec | None
    asked_s: float  # monotonic: when the node's turn came


class Switches:
    """The switches under way of one site; `close` lets go of them, and the book has what they were at."""

    def __init__(self, options: GpuNodeOptions, clock: Clock, book: SwitchBook) -> None:
        self._options, self._clock, self._book = options, clock, book
        self._orders: dict[Key, Order] = {}
        self._tasks = Tasks()

    async def close(self) -> None:
        """End what is under way; the devices stay as they are."""
        await self._tasks.close()

    def begin(self, asked: Asked, node: Node, device: GpuNode, at_work: Mapping[int, GpuStatus]) -> list[Order]:
        """Switch GPUs that run something else."""
        each = (asked.work or self._options.workloads.get(asked.state, WorkloadSpec())).gpus_each
        together = switched_together(at_work, each)
        return [self._run(self._switch(asked, node, gpus, at_work), asked, node, device) for gpus in together]

    def go_on(
        self, asked: Asked, node: Node, device: GpuNode, gpus: Sequence[int]
    ) -> tuple[list[Order], dict[int, DeviceRefusedError]]:
        """Go on with the command's switches that are in the book; and why GPUs can't be switched whose switch had failed."""
        orders, failed = list[Order](), dict[int, DeviceRefusedError]()
        for switch in self._book.of(asked.command_id, asked.index, node.address):
            own = [slot - node.first_slot for slot in switch.slots]
            if not set(own) <= set(gpus):
                continue  # some of them are somebody else's by now
            if switch.stage is Stage.OVER:
                error = DeviceRefusedError(f"{node.address}: {switch.outcome}: {switch.problem}")
                failed |= dict.fromkeys(own, error)
            else:
                orders.append(self._run(switch, asked, node, device))
        return orders, failed

    def _run(self, switch: Switch, asked: Asked, node: Node, device: GpuNode) -> Order:
        """Carry a switch out; one that is under way has its command told once more."""
        order = self._orders.get(switch.key)
        if order is not None:
            order.ticket = asked.ticket
            return order
        spec = switch.work or self._options.workloads.get(switch.to_state, WorkloadSpec())
        gpus = tuple(slot - node.first_slot for slot in switch.slots)
        order = self._orders[switch.key] = Order(
            node, device, asked.ticket, asked.request_id, gpus, switch, spec, asked.asked_s
        )
        self._tasks.begin(self._carry_out(order))
        return order

    async def _carry_out(self, order: Order) -> None:
        try:
            await Run(order, self._options.phase_within_s, self._options.deadline_s, self._clock, self._book).go()
        except StorageError as error:
            order.error = DeviceRefusedError(f"{order.node.address}: the switch could not be stored: {error}")
        except Exception as defect:
            order.error = DeviceRefusedError(f"{order.node.address}: defect: {defect!r}"[:300])
            log = structlog.get_logger("devices.gpu_node")
            log.error("a switch has a defect", node=order.node.address, exc_info=defect)
        finally:
            self._orders.pop(order.switch.key, None)
            order.started.set()

    def _switch(self, asked: Asked, node: Node, gpus: Gpus, at_work: Mapping[int, GpuStatus]) -> Switch:
        running = [gpu for gpu in gpus if at_work[gpu].workload_phase == "running"]
        first = at_work[running[0]]
        state = _STATE_OF_CLASS[first.workload_class or ""]
        return Switch(
            asked.command_id,
            asked.index,
            node.address,
            tuple(node.first_slot + gpu for gpu in gpus),
            state,
            self._before(state, first),
            tuple(node.first_slot + gpu for gpu in running),
            asked.state,
            asked.work,
        )

    def _before(self, state: DeviceState, status: GpuStatus) -> WorkloadSpec:
        """What runs on a GPU, as it would be started again; what its agent does not tell is as the site's file has it."""
        spec = self._options.workloads.get(state, WorkloadSpec())
        return replace(
            spec,
            model=status.model or spec.model,
            weights_gib=status.weights_gib or spec.weights_gib,
            load=status.load or spec.load,
            gpus_each=max(len(status.workload_gpus), 1),
            workload_id=status.work,
            checkpoint=status.saved or status.checkpoint,
        )
