"""The alerter's metrics."""

from prometheus_client import Counter, Gauge

OPEN = Gauge("hcp_alerts_open", "Alerts that are open.")
DELIVERIES = Counter(
    "hcp_alerts_deliveries_total", "Alerts and heartbeats told, by sink and result.", ["sink", "result"]
)
