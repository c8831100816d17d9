"""What the agent's reads say of a node and of a GPU, as JSON documents (docs/gpu-agent.md)."""

from simulators import faults
from simulators.clock import iso
from simulators.gpus.node_agent import NodeAgent
from simulators.gpus.nodes import DRIVER_VERSION, Gpu
from simulators.gpus.requests import LEAST_CAP_W, MOST_CAP_W
from simulators.gpus.workloads import LIVE, STATE_NAMES, Phase, Workload

API_VERSION = "1.0"


def node_document(agent: NodeAgent, at_s: float) -> dict[str, object]:
    """The host: what it is made of, whether it takes work, since when it is up."""
    first = agent.node.gpus[0]
    workloads = [one for one in agent.workloads(at_s) if one.phase in LIVE]
    return {
        "api_version": API_VERSION,
        "hostname": agent.node.hostname,
        "time": iso(at_s),
        "booted_at": iso(agent.booted_s),
        "driver_version": DRIVER_VERSION,
        "gpu_count": len(agent.node.gpus),
        "gpu_model": first.model_name,
        "compute_capability": first.compute_capability,
        "memory_mib": agent.hardware.memory_mib(at_s),
        "power_cap_bounds_w": [LEAST_CAP_W, MOST_CAP_W],
        "states": [STATE_NAMES[state] for state in sorted(agent.node.states | {0}) if state in STATE_NAMES],
        "is_drained": agent.is_drained,
        "workloads": len(workloads),
    }


def gpu_document(agent: NodeAgent, gpu: Gpu, workloads: list[Workload], at_s: float) -> dict[str, object]:
    """One GPU now, unlike the exporter's values, which may be as old as its interval."""
    reading = agent.hardware.reading(gpu.number, at_s)
    operation = agent.operation_of(gpu.number)
    holder = next(
        (one for one in reversed(workloads) if gpu.number in one.gpus and one.phase is not Phase.STOPPED), None
    )
    known: dict[str, object] = {
        "gpu": gpu.number,
        "uuid": gpu.uuid,
        "pci_bus_id": gpu.pci_bus_id,
        "health": _health(reading.faults),
        "operation": operation.operation_id if operation else None,
        "workload": holder.document() if holder else None,
    }
    if not agent.hardware.is_on_bus(gpu.number, at_s):
        return known | dict.fromkeys(_LIVE_VALUES)
    live = (
        STATE_NAMES.get(reading.state, "unknown"),
        round(reading.power_w, 3),
        round(reading.power_cap_w, 1),
        round(reading.utilization_fraction, 4),
        int(reading.memory_used_mib),
        round(reading.temperature_c, 1),
        reading.last_xid,
    )
    return known | dict(zip(_LIVE_VALUES, live, strict=True))


_LIVE_VALUES = ("state", "power_w", "power_cap_w", "utilization_fraction", "memory_used_mib", "temperature_c", "xid")


def _health(found: frozenset[str]) -> str:
    if faults.FALLEN_OFF_BUS in found:
        return "lost"
    if found & {faults.ECC, faults.NVLINK}:
        return "degraded"
    return "throttled" if faults.THROTTLED in found else "ok"
