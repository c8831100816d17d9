"""The collector's Prometheus metrics, defined once: dashboards and alert rules are built on these names."""

from prometheus_client import Counter, Gauge, Histogram

ROWS = Counter("hcp_collector_rows_copied_total", "Rows that came into the lake.", ["table"])
LAG_SECONDS = Gauge(
    "hcp_collector_lag_seconds",
    "Real time since the whole table was last known to be in the lake: no row waits for longer.",
    ["table"],
)
ROW_AGE_SECONDS = Histogram(
    "hcp_collector_row_age_seconds",
    "Real time from writing a batch's oldest row in Postgres to the batch's commit in the lake.",
    ["table"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)
FAILURES = Counter(
    "hcp_collector_failures_total",
    "Rounds that failed, by what: copy, telemetry or rollup.",
    ["part"],
)
TELEMETRY_ROWS = Counter("hcp_collector_telemetry_rows_total", "Rows of devices' telemetry that came into the lake.")
TELEMETRY_LAG_SECONDS = Gauge(
    "hcp_collector_telemetry_lag_seconds", "Real time since the newest sample that is in the lake was taken."
)
TELEMETRY_AGE_SECONDS = Histogram(
    "hcp_collector_telemetry_age_seconds",
    "Real time from taking a sample to its commit in the lake.",
    buckets=(0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0, 3600.0),
)
TELEMETRY_WRITE_SECONDS = Histogram(
    "hcp_collector_telemetry_write_seconds",
    "Real time of one batch's write and commit.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0),
)
TELEMETRY_REFUSED = Counter(
    "hcp_collector_telemetry_refused_total", "Samples that were refused, by reason.", ["reason"]
)
TELEMETRY_SHED = Gauge(
    "hcp_collector_telemetry_shed_samples", "Samples that gateways gave up for want of room, since the collector began."
)
TELEMETRY_UPKEEP_SECONDS = Histogram(
    "hcp_collector_telemetry_upkeep_seconds",
    "Real time of one roll-up, or of one look for what is to go.",
    ["part"],
    buckets=(0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0),
)
TELEMETRY_CUT_ROWS = Counter(
    "hcp_collector_telemetry_cut_rows_total", "Rows let go of as too old or too many.", ["table"]
)
TELEMETRY_TOO_LATE = Counter(
    "hcp_collector_telemetry_too_late_minutes_total",
    "Minutes with late samples that are as they were: their others have gone.",
)
