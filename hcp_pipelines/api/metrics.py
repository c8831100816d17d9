"""The API's metrics; none by account: that would be a label without end."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = Histogram(
    "hcp_api_request_seconds",
    "From a request to the end of its answer, by endpoint.",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
UNDER_WAY = Gauge("hcp_api_requests_under_way", "Requests that are being answered.")
REQUESTS = Counter(
    "hcp_workload_requests_total",
    "Submissions of work by the class that was told of it: accepted, repeated (under the same key), refused by the queue.",
    ["workload_type", "status"],
)
LOG_INS = Counter("hcp_api_log_ins_total", "Log-ins by outcome: ok, wrong, too_often.", ["outcome"])
