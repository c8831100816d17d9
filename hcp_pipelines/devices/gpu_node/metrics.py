"""Metrics of the GPU node driver."""

from prometheus_client import Counter, Histogram

CALLS = Counter("hcp_gpu_node_calls_total", "Polls of nodes, and GPUs told a state, by result.", ["call", "result"])
ROUND_SECONDS = Histogram(
    "hcp_gpu_node_round_seconds",
    "One poll of all nodes of a facility.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
OPERATIONS = Counter("hcp_gpu_node_operations_total", "Operations of agents that have ended, by result.", ["result"])
_REAL = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
SWITCHES = Counter(
    "hcp_gpu_switches_total", "Switches of GPUs that ran something, by what became of them.", ["outcome"]
)
PHASE_SECONDS = Histogram(
    "hcp_gpu_switch_phase_seconds", "A phase of a switch, from asking the agent to its yes.", ["phase"], buckets=_REAL
)
SWITCH_SECONDS = Histogram(
    "hcp_gpu_switch_control_seconds", "A switch that came to its end, without the devices' own time.", buckets=_REAL
)
PHASE_DEVICE_SECONDS = Histogram(
    "hcp_gpu_switch_phase_simulated_seconds",
    "A phase of a switch at the device, by its agent's clock.",
    ["phase"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 180, 300),
)
XIDS = Counter(
    "hcp_gpu_xids_total", "XIDs seen, and what became of the action that they ask for.", ["code", "action", "result"]
)
