"""Metrics of the miner driver."""

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("hcp_miner_calls_total", "Polls and commands by result.", ["call", "result"])
ROUND_SECONDS = Histogram(
    "hcp_miner_round_seconds", "One poll of all miners of a facility.", buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
)
METER_BEYOND_WATTS = Gauge(
    "hcp_miner_meter_beyond_watts", "What feeders' meters read beyond their devices' own word.", ["feeder_id"]
)
