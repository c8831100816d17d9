"""Metrics: each is told by somebody, in base units, and none has a label that grows with the fleet or with customers' work."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path: path.read_text() for path in sorted((ROOT / "hcp_pipelines").rglob("*.py"))}
DEFINED = re.compile(r"^([A-Z_]+) = (?:Counter|Gauge|Histogram)\(", re.MULTILINE)
UNBOUNDED = {
    "device",
    "slot",
    "gpu_id",
    "asic_id",
    "workload_id",
    "customer_id",
    "command_id",
    "tick_id",
    "address",
    "path",
}
NO_BASE_UNIT = re.compile(r"_(ms|milliseconds|hours|kw|mw|kwh|mwh|mb|gb|percent)$")
METRICS = {
    f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{name}": name
    for path, text in SOURCES.items()
    for name in DEFINED.findall(text)
}


def is_set(where: str, name: str) -> bool:
    """Whether another module names it, or its own a second time."""
    module = ROOT / (where.partition(":")[0].replace(".", "/") + ".py")
    if any(path != module and re.search(rf"\.{name}\b", text) for path, text in SOURCES.items()):
        return True
    return len(re.findall(rf"\b{name}\b", SOURCES[module])) > 1


def test_each_is_set_somewhere():
    assert [where for where, name in METRICS.items() if not is_set(where, name)] == []


def test_none_has_a_label_that_grows_or_a_unit_of_its_own():
    wrong = []
    for where, name in METRICS.items():
        metric = getattr(importlib.import_module(where.partition(":")[0]), name)
        wrong += [where for label in metric._labelnames if label in UNBOUNDED]
        wrong += [where] if NO_BASE_UNIT.search(metric._name) or not metric._name.startswith("hcp_") else []
    assert len(METRICS) > 80
    assert wrong == []
