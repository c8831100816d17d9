"""The scheduler's Prometheus metrics, defined once: dashboards and alert rules are built on these names."""

from prometheus_client import Counter, Gauge, Histogram

_QUICK = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
DECISIONS = Counter("hcp_scheduler_decisions_total", "Routing decisions, by outcome: placed, none.", ["outcome"])
ROUTE_SECONDS = Histogram("hcp_scheduler_route_seconds", "Of one routing decision, without Postgres.", buckets=_QUICK)
BIND_SECONDS = Histogram(
    "hcp_scheduler_bind_seconds",
    "Of allocating, desiring and scheduling one batch.",
    buckets=(0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
ROUND_SECONDS = Histogram(
    "hcp_scheduler_round_seconds", "Of one round.", buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
)
STEPS = Counter(
    "hcp_scheduler_steps_total", "Steps of held work: started, completed, saved, returned, failed.", ["step"]
)
PREEMPTED = Counter("hcp_scheduler_preempted_total", "Work that gave way, by whom for: policy, urgent work.", ["cause"])
STOPS = Counter(
    "hcp_scheduler_stops_total",
    "Running work that was told to stand still, by what its devices said: kept, not_kept, untold.",
    ["outcome"],
)
LOST_GPU_SECONDS = Counter(
    "hcp_scheduler_lost_gpu_seconds_total", "Of work that was told to stand still, what its devices have not kept."
)
STATUS = Gauge(
    "hcp_workload_status", "Pieces of work that are not over, by status; of the scheduler at work.", ["status"]
)
DEPTH = Gauge(
    "hcp_workload_queue_depth",
    "Pieces of work that wait, by the priority at which they stand now; of the scheduler at work.",
    ["priority"],
)
IS_LEADER = Gauge("hcp_scheduler_is_leader", "1 for the scheduler at work, 0 for one that stands by.")
FAILURES = Counter("hcp_scheduler_failures_total", "Rounds that failed and were begun anew from Postgres.")
