"""The gateway's metrics."""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)

COMMANDS = Counter("hcp_edge_commands_total", "Commands by result.", ["result"])
REFUSED = Counter("hcp_edge_refusals_total", "Refused announcements and commands by reason.", ["code"])
LOCAL = Counter("hcp_edge_local_events_total", "What a gateway did by itself, by kind.", ["kind"])
DIRECT = Counter("hcp_edge_direct_orders_total", "Direct orders by result.", ["result"])
EXPIRED = Counter("hcp_edge_expired_commands_total", "Commands stored after their deadline, and not carried out.")
LOG_BYTES = Gauge("hcp_edge_log_bytes", "Size of a facility's durable log.", ["facility_id"])
SETTLED = Counter("hcp_edge_settled_devices_total", "Devices judged by their own power.", ["result"])
ACK_SECONDS = Histogram("hcp_edge_ack_seconds", "From receipt of a command to its ack.", buckets=_BUCKETS)
SWITCH_SECONDS = Histogram(
    "hcp_edge_switch_simulated_seconds",
    "From telling an assignment's devices to the judgement of the last one by its power, by the state and what became of them.",
    ["facility_id", "to_state", "result"],
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1200),
)
EVIDENCE = Gauge(
    "hcp_edge_power_evidence_devices", "Devices by what their power rests on.", ["facility_id", "evidence"]
)
ISSUES = Gauge(
    "hcp_edge_device_issues",
    "Devices with what is wrong by their model's limits, of the last reading.",
    ["facility_id", "issue", "severity"],
)
POWER_WATTS = Gauge("hcp_edge_power_watts", "IT power of a facility's devices.", ["facility_id"])
DARK = Gauge(
    "hcp_edge_dark_devices",
    "Devices of a feeder that has no power, but for those that somebody has locked out.",
    ["facility_id", "feeder_id"],
)
_GROUP = ["facility_id", "group_id"]
ASIC_POWER_WATTS = Gauge("hcp_asic_power_watts", "IT power of a group's miners together.", _GROUP)
ASIC_HASHRATE = Gauge("hcp_asic_hashrate_th_per_s", "Hashrate of a group's miners together, as they tell it.", _GROUP)
ASIC_EFFICIENCY = Gauge("hcp_asic_efficiency_j_per_th", "Power over hashrate of a group's miners together.", _GROUP)
ASIC_HOTTEST = Gauge("hcp_asic_temperature_celsius", "The hottest chips that a group's miners tell of.", _GROUP)
ASIC_LOW_HASHRATE = Gauge(
    "hcp_asic_low_hashrate_miners", "Miners that have hashed for a while as one with a dead board does.", _GROUP
)
GPU_POWER_WATTS = Gauge("hcp_gpu_power_watts", "Power of a group's GPUs together, their hosts' share included.", _GROUP)
GPU_HOTTEST = Gauge("hcp_gpu_temperature_celsius", "The hottest GPU of a group.", _GROUP)
_SCAN_BUCKETS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 900)
SCANS = Counter("hcp_edge_scans_total", "Scans of a facility's addresses by result.", ["facility_id", "result"])
SCANS_LATE = Counter("hcp_edge_scans_late_total", "Scans that took longer than their period.", ["facility_id"])
SCAN_SECONDS = Histogram("hcp_edge_scan_seconds", "How long a scan took.", ["facility_id"], buckets=_SCAN_BUCKETS)
SCAN_RATE = Gauge("hcp_edge_scan_addresses_per_second", "Addresses a second of the last scan.", ["facility_id"])
SCAN_FOUND = Gauge("hcp_edge_scan_devices", "Devices of the last scan: found, hung, missed.", ["facility_id", "what"])
TELEMETRY_SPOOL_BYTES = Gauge(
    "hcp_edge_telemetry_spool_bytes", "Samples on disk until the collector has stored them.", ["facility_id"]
)
TELEMETRY_SHED = Counter("hcp_edge_telemetry_shed_total", "Samples given up for want of room.", ["facility_id"])
TELEMETRY_LEFT_OUT = Counter(
    "hcp_edge_telemetry_left_out_total", "Samples not taken since the one before was still being kept.", ["facility_id"]
)
