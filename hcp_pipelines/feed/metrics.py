"""The feed's Prometheus metrics, defined once: dashboards and alert rules are built on these names."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

TICKS = Counter(
    "hcp_feed_ticks_total",
    "Ticks by what became of them: good, unusual, absurd, out_of_order (recorded), duplicate, refused, dropped (not).",
    ["stream", "quality"],
)
POLLS = Counter("hcp_feed_polls_total", "Polls of a source by outcome: ok, empty, failed.", ["source", "outcome"])
POLL_SECONDS = Histogram("hcp_feed_poll_seconds", "Real time of one poll.", ["source"], buckets=_LATENCY_BUCKETS)
COMMIT_SECONDS = Histogram(
    "hcp_feed_commit_seconds", "Real time of recording and announcing one batch.", buckets=_LATENCY_BUCKETS
)
SOURCE_TO_COMMIT_SECONDS = Histogram(
    "hcp_feed_source_to_commit_seconds",
    "Real time from the source's reply to the commit of its ticks.",
    ["stream"],
    buckets=_LATENCY_BUCKETS,
)
SOURCE_AGE_SECONDS = Gauge(
    "hcp_feed_source_age_seconds", "Simulated age of the newest value that may be acted on.", ["stream"]
)
BREAKER_OPEN = Gauge("hcp_feed_breaker_open", "1 while a failing source is left alone for a while.", ["source"])
BUFFERED_TICKS = Gauge("hcp_feed_buffered_ticks", "Ticks waiting to be recorded.")
GRID_EVENTS = Counter(
    "hcp_feed_grid_events_total",
    "Events of the demand response server by our answer: in, out; of those out, unusable: what could not even be judged.",
    ["answer"],
)
GRID_SERVER_UP = Gauge("hcp_feed_grid_server_up", "1 while we are registered there and it answers.")
