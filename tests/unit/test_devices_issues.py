"""What is wrong with a device stands in one table a kind, and comes with every reading."""

import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

from hcp_pipelines.devices.gpu_node import limits as gpu_limits
from hcp_pipelines.devices.gpu_node.boards import BoardPower, Level
from hcp_pipelines.devices.gpu_node.exporter_codec import decode_metrics
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup, NodeFleet
from hcp_pipelines.devices.gpu_node.values import GpuTelemetry, NodeTelemetry
from hcp_pipelines.devices.issues import DeviceIssue, IssueLog, by_issue
from hcp_pipelines.devices.many import ManySites
from hcp_pipelines.devices.miner.limits import MinerLimits, issues_of, limits_of
from hcp_pipelines.devices.miner.telemetry import Telemetry
from hcp_pipelines.devices.site import Evidence, Reading
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.models import MODELS


@pytest.mark.parametrize(
    ("model", "heat", "severity"),
    [
        ("S21", 80.0, []), ("S21", 80.5, ["warning"]), ("S21", 85.5, ["critical"]),
        ("M60S", 84.0, []), ("M60S", 90.0, ["warning"]), ("M60S", 95.5, ["critical"]),
        ("something new", 81.0, ["warning"]), ("S21", None, []),
    ],
)  # fmt: skip
def test_a_miner_is_judged_by_its_model_s_limits(model, heat, severity):
    assert [one.severity for one in issues_of(Telemetry(200.0, chip_temperature_celsius=heat), model)] == severity


def test_every_model_of_the_model_table_has_limits():
    names = {gpu_limits.table_model(name) for name in gpu_limits._LIMITS}
    for model in MODELS.values():
        assert limits_of(model.model) != MinerLimits("") if model.type == "ASIC" else model.model in names


def test_a_node_s_gpus_are_judged_together():
    fleet = NodeFleet([GpuGroup(0, 3, ("10.0.0.1",), ())], 3, BoardPower())
    model = "NVIDIA H100 80GB HBM3"
    heats = (70.0, 82.0, 86.0)
    gpus = tuple(GpuTelemetry(n, f"GPU-{n}", model, "host", temperature_celsius=heat) for n, heat in enumerate(heats))
    assert list(fleet.issues()) == []
    fleet.nodes[0].telemetry = NodeTelemetry(gpus)
    assert who(by_issue(fleet.issues())) == {
        ("elevated_temperature", "warning"): [1],
        ("high_temperature", "critical"): [2],
    }
    assert fleet.temperature()[: len(heats)].tolist() == list(heats)


@pytest.mark.parametrize(
    ("issue", "level"),
    [
        (DeviceIssue("critical", "xid", "XID 79: the GPU has fallen off the bus; reboot_node"), "warning"),
        (DeviceIssue("warning", "throttled", "1175 of 1980 MHz at 134 W"), "info"),
    ],
)
def test_the_log_says_when_an_issue_comes_up_and_when_it_is_over(issue, level):
    with capture_logs() as said:
        log = IssueLog(structlog.get_logger("test"))
        for found in ([], [(3, issue), (5, issue)], [(5, issue)], []):
            assert who(log.take(found)) == who(by_issue(found))
    assert [(line["log_level"], line["issue"], line.get("slot"), line.get("said")) for line in said] == [
        (level, issue.issue_type, 3, issue.message), ("info", issue.issue_type, None, None)
    ]  # fmt: skip


def who(issues):
    """The slots of each as plain numbers."""
    return {key: slots.tolist() for key, slots in issues.items()}


def test_power_that_no_board_of_a_model_draws_is_no_evidence_and_is_counted():
    fleet = NodeFleet([GpuGroup(0, 3, ("10.0.0.1",), (Level(DeviceState.INFERENCE_BATCH, 1300.0),))], 3, BoardPower())
    page = "".join(
        f'DCGM_FI_DEV_POWER_USAGE{{gpu="{n}",UUID="GPU-{n}",modelName="NVIDIA H100 80GB HBM3"}} {watts}\n'
        for n, watts in enumerate((620, 5000, 640))
    )
    fleet.nodes[0].telemetry = decode_metrics(page.encode(), "10.0.0.1")
    power_w, evidence = fleet.power()
    assert np.isnan(power_w).tolist() == [False, True, False]
    assert evidence.tolist() == [Evidence.MEASURED, Evidence.NONE, Evidence.MEASURED]
    assert who(by_issue(fleet.issues())) == {("implausible_reading", "warning"): [1]}


def test_several_drivers_issues_add_up():
    readings, parts = [], []

    class Part:
        def __init__(self, take):
            parts.append(take)

    half = np.array([True, False])
    ManySites([(Part, half, 100), (Part, ~half, 100)], 2, readings.append)
    hot, xid = ("high_temperature", "critical"), ("xid", "warning")
    for take, issues in zip(parts, ({hot: np.uint32([0])}, {hot: np.uint32([1]), xid: np.uint32([1])}), strict=True):
        take(Reading(0.0, np.zeros(2, np.float32), None, issues))
    assert who(readings[0].issues) == {hot: [0, 1], xid: [1]}
