"""Metrics of the Kubernetes driver."""

from prometheus_client import Counter

CALLS = Counter(
    "hcp_kubernetes_calls_total", "GPUs told a state, and polls of exporters, by result.", ["call", "result"]
)
WATCHES = Counter("hcp_kubernetes_watches_total", "Watches that have ended, by why.", ["why"])
