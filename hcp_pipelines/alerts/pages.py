"""What processes of this machine tell of themselves: their records in `run/`, and metrics of owners and gateways.

What follows from it is in `conditions.py`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import structlog
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from hcp_pipelines.settings import Settings

PHASE_METRIC, OWNER_METRIC = "hcp_allocator_input_phase", "hcp_allocator_is_owner"
ISSUES_METRIC = "hcp_edge_device_issues"
WITHIN_S = 2.0


def read_record(settings: Settings, name: str) -> dict[str, Any]:
    """A process's record in `run/`; empty where there is none, or none that can be read."""
    try:
        found = json.loads(settings.at("run", name).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_phases(settings: Settings) -> dict[str, int]:
    """The worst phase of its inputs by facility, as the allocator that owns it says."""
    phases: dict[str, int] = {}
    for page in _pages(settings, "allocator-*.json"):
        told = samples_of(page, PHASE_METRIC, OWNER_METRIC)
        owned = {one.labels["facility_id"] for one in told if one.name == OWNER_METRIC and one.value}
        phases |= {
            one.labels["facility_id"]: int(one.value)
            for one in told
            if one.name == PHASE_METRIC and one.labels["facility_id"] in owned
        }
    return phases


def read_gateways(settings: Settings) -> list[str]:
    """The metrics of each gateway of this machine that can be asked."""
    return list(_pages(settings, "gateway-*.json"))


def read_critical_issues(pages: Sequence[str]) -> dict[tuple[str, str], int]:
    """Devices by (facility, issue) that are critical by their model's limits, of the gateways' last readings."""
    devices = Counter[tuple[str, str]]()
    for page in pages:
        for one in samples_of(page, ISSUES_METRIC):
            if one.labels["severity"] == "critical" and one.value:
                devices[one.labels["facility_id"], one.labels["issue"]] += int(one.value)
    return devices


def read_counts(pages: Sequence[str], metric: str, label: str) -> dict[tuple[str, str], int]:
    """What a gauge of gateways counts, where it counts any, by facility and another label."""
    return {
        (one.labels["facility_id"], one.labels[label]): int(one.value)
        for page in pages
        for one in samples_of(page, metric)
        if one.value
    }


def samples_of(page: str, *names: str) -> list[Sample]:
    """Samples of these metrics; other lines of the page, which are many, are not parsed.

    >>> samples_of('ab{x="1"} 3.0', "ab")[0].value, samples_of('abc{x="1"} 3.0', "ab")
    (3.0, [])
    """
    wanted = (line for line in page.splitlines() if line.partition("{")[0].partition(" ")[0] in names)
    return [one for family in text_string_to_metric_families("\n".join(wanted)) for one in family.samples]


def _pages(settings: Settings, records: str) -> Iterator[str]:
    """The metrics of each process whose record is so named, and that can be asked."""
    for record in settings.at("run").glob(records):
        url = read_record(settings, record.name).get("urls", {}).get("metrics")
        if url is None:
            continue
        try:
            yield httpx.get(url, timeout=WITHIN_S, trust_env=False).text
        except httpx.HTTPError as error:
            log = structlog.get_logger("alerts")
            log.info("a process's metrics can't be asked", process=record.stem, error=str(error))
