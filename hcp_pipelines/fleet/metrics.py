"""The inventory follower's metrics."""

from prometheus_client import Counter, Gauge

SCANS = Counter(
    "hcp_fleet_scans_total", "Scans read from gateways: unchanged, applied, recorded, held.", ["facility_id", "result"]
)
CHANGES = Counter("hcp_fleet_changes_total", "Changes of devices by kind.", ["kind"])
SCANNED_AT = Gauge("hcp_fleet_scan_timestamp_seconds", "When the last scan was read.", ["facility_id"])
