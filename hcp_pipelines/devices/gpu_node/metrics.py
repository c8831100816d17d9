"""Metrics of the GPU node driver."""

from prometheus_client import Counter, Histogram

CALLS = Counter("hcp_gpu_node_calls_total", "Polls of nodes, and GPUs told a state, by result.", ["call", "result"])
ROUND_SECONDS = Histogram(
    "hcp_gpu_node_round_seconds",
    "One poll of all nodes of a facility.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
OPERATIONS = Counter("hcp_gpu_node_operations_total", "Operations of agents that have ended, by result.", ["result"])
XIDS = Counter(
    "hcp_gpu_xids_total", "XIDs seen, and what became of the action that they ask for.", ["code", "action", "result"]
)
