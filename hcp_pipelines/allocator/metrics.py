"""The allocator's metrics; no per-device labels."""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

TICK_TO_ACK_SECONDS = Histogram(
    "hcp_allocator_tick_to_ack_seconds",
    "From the tick row to the ack of its first wave at one gateway.",
    buckets=_BUCKETS,
)
PLAN_SECONDS = Histogram("hcp_allocator_plan_seconds", "Deciding for all owned facilities.", buckets=_BUCKETS)
WAVES = Counter("hcp_allocator_waves_total", "Waves sent, by reason.", ["reason"])
SWITCHES = Counter("hcp_allocator_switches_total", "Devices commanded, by the state they were sent to.", ["to_state"])
WOULD_BE = Counter("hcp_allocator_would_be_switches_total", "Devices that `auto` would have switched.", ["facility_id"])
IS_OWNER = Gauge("hcp_allocator_is_owner", "1 while this allocator owns the facility.", ["facility_id"])
IS_READY = Gauge("hcp_allocator_has_session", "1 while the facility's gateway follows this allocator.", ["facility_id"])
PHASE = Gauge("hcp_allocator_input_phase", "0 normal, 1 hold, 2 fallback plan.", ["facility_id"])
ADMISSIONS = Counter("hcp_allocator_policies_total", "Policies looked at, by result.", ["result"])
EXPECTED_GPUS = Gauge(
    "hcp_allocator_expected_gpus", "GPUs that the policy keeps for work that a forecast expects.", ["facility_id"]
)
HAS_FORECAST = Gauge(
    "hcp_allocator_has_demand_forecast",
    "1 where the policy keeps room by a forecast, 0 by the fixed share alone.",
    ["facility_id"],
)
UNDONE = Counter("hcp_allocator_undone_devices_total", "Devices not switched as commanded, by what happened.", ["what"])
DISCREPANCIES = Counter("hcp_allocator_discrepancies_total", "Devices found in another state than believed.")
RESTING = Gauge(
    "hcp_allocator_resting_devices", "Devices that the dwell limits kept from following the price.", ["facility_id"]
)
LEASES_LOST = Counter("hcp_allocator_leases_lost_total", "Leases that ended without being given up.")
POSTGRES_ERRORS = Counter("hcp_allocator_postgres_errors_total", "Failed uses of Postgres, by what for.", ["what"])
ROWS_REFUSED = Counter("hcp_allocator_rows_refused_total", "Rows that Postgres would not store, by kind.", ["kind"])
TICKS = Counter("hcp_allocator_ticks_total", "Actionable tick rows read.")
