"""The exporter's codec, the XID table, limits and timings: what they must say whatever the node says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hcp_pipelines.devices.gpu_node.exporter_codec import decode_metrics
from hcp_pipelines.devices.gpu_node.limits import draws_like, issues_of, limits_of
from hcp_pipelines.devices.gpu_node.values import GpuTelemetry
from hcp_pipelines.devices.xid import XIDS, XidAction, xid_of
from hcp_pipelines.domain.errors import DeviceReplyError
from hcp_pipelines.domain.modes import DeviceState
from simulators.gpus.timings import TIMINGS, duration_s

FRAMES = Path(__file__).parents[1] / "contract" / "frames"
LABELS = 'gpu="0",UUID="GPU-a",pci_bus_id="00000000:1B:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node1"'


def page(*lines: tuple[str, str], labels=LABELS) -> bytes:
    kinds = {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "counter"}
    text = "".join(f"# TYPE {n} {kinds.get(n, 'gauge')}\n{n}{{{labels}}} {v}\n" for n, v in lines)
    return text.encode()


def decode(*lines: tuple[str, str], labels=LABELS) -> GpuTelemetry:
    (gpu,) = decode_metrics(page(*lines, labels=labels), "node").gpus
    return gpu


def test_the_published_example_of_an_xid_reads_as_it_says():
    (gpu,) = decode_metrics((FRAMES / "dcgm_xid79.txt").read_bytes(), "node").gpus
    assert (gpu.index, gpu.uuid, gpu.hostname) == (0, "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52", "node1")
    assert (gpu.last_xid, gpu.xid.action) == (79, XidAction.REBOOT_NODE)
    assert gpu.power_w is None


def test_memory_is_bytes_and_use_is_a_fraction():
    gpu = decode(
        ("DCGM_FI_DEV_FB_USED", "74198"),
        ("DCGM_FI_DEV_FB_FREE", "6810"),
        ("DCGM_FI_DEV_FB_RESERVED", "551"),
        ("DCGM_FI_DEV_GPU_UTIL", "97"),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "0.929260"),
    )
    assert gpu.memory_used_bytes == 74198 * 1_048_576
    assert gpu.memory_total_bytes == 81559 * 1_048_576
    assert gpu.utilization_fraction == pytest.approx(0.97)
    assert gpu.tensor_active_fraction == pytest.approx(0.92926)


def test_an_exporter_without_reserved_memory_still_gives_a_total():
    gpu = decode(("DCGM_FI_DEV_FB_USED", "10"), ("DCGM_FI_DEV_FB_FREE", "90"))
    assert gpu.memory_total_bytes == 100 * 1_048_576
    assert decode(("DCGM_FI_DEV_FB_USED", "10")).memory_total_bytes is None


def test_energy_is_a_counter_in_millijoules():
    gpu = decode(("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "319159391"))
    assert gpu.energy_j == pytest.approx(319159.391)
    assert decode(("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", str(2**48))).energy_j == pytest.approx(2**48 / 1000)


@pytest.mark.parametrize("blank", [str(0x7FFFFFFFFFFFFFF0 + n) for n in range(5)] + [f"{2.0**47:.6f}", "NaN", "+Inf"])
def test_dcgms_blanks_are_no_values(blank):
    gpu = decode(("DCGM_FI_DEV_MEMORY_TEMP", blank), ("DCGM_FI_DEV_POWER_USAGE", blank), ("DCGM_FI_DEV_GPU_TEMP", "40"))
    assert (gpu.memory_temperature_celsius, gpu.power_w, gpu.temperature_celsius) == (None, None, 40)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DCGM_FI_DEV_GPU_UTIL", "101"),
        ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "1.5"),
        ("DCGM_FI_DEV_POWER_USAGE", "-1"),
        ("DCGM_FI_DEV_GPU_TEMP", "4000"),
        ("DCGM_FI_DEV_SM_CLOCK", "1e9"),
    ],
)
def test_what_cannot_be_is_told_and_left_out(name, value):
    gpu = decode((name, value), ("DCGM_FI_DEV_FB_USED", "5"))
    assert len(gpu.problems) == 1
    assert name.removeprefix("DCGM_FI_") in gpu.problems[0]
    assert f"{float(value):g}, outside" in gpu.problems[0]
    assert [issue.issue_type for issue in issues_of(gpu)] == ["implausible_reading"]
    assert gpu.memory_used_bytes == 5 * 1_048_576
    rest = (
        gpu.utilization_fraction,
        gpu.engine_active_fraction,
        gpu.power_w,
        gpu.temperature_celsius,
        gpu.sm_clock_mhz,
    )
    assert rest == (None,) * 5


@pytest.mark.parametrize(
    "labels",
    [
        'gpu="0",uuid="GPU-a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",hostname="node1"',
        'gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3",hostname="node1",container="c",namespace="n",pod="p"',
        'Hostname="node1",modelName="NVIDIA H100 80GB HBM3",UUID="GPU-a",gpu="0"',
    ],
)
def test_labels_of_other_versions_are_read_too(labels):
    gpu = decode(("DCGM_FI_DEV_GPU_TEMP", "40"), labels=labels)
    assert (gpu.index, gpu.uuid, gpu.hostname, gpu.model) == (0, "GPU-a", "node1", "NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize(
    ("model", "watts", "is_believed"),
    [
        ("NVIDIA H100 80GB HBM3", 700, True), ("NVIDIA H100 80GB HBM3", 909, True), ("NVIDIA H100 80GB HBM3", 911, False),
        ("NVIDIA H100 PCIe", 700, False), ("NVIDIA B200", 1200, True), ("NVIDIA B200", 5000, False),
        ("something new", 4900, True), ("something new", 5001, False),
    ],
)  # fmt: skip
def test_a_board_is_not_believed_to_draw_more_than_its_model_can(model, watts, is_believed):
    labels = LABELS.replace("NVIDIA H100 80GB HBM3", model)
    gpu = decode(("DCGM_FI_DEV_POWER_USAGE", str(watts)), ("DCGM_FI_DEV_GPU_TEMP", "40"), labels=labels)
    assert gpu.power_w == (watts if is_believed else None)
    assert [issue.issue_type for issue in issues_of(gpu)] == ([] if is_believed else ["implausible_reading"])


def test_series_without_a_gpu_are_passed_over_and_gpus_come_in_order():
    body = page(("DCGM_FI_DEV_GPU_TEMP", "40"), labels='gpu="11",UUID="b"')
    body += b'DCGM_FI_DEV_GPU_TEMP{gpu="2",UUID="c"} 41\nDCGM_FI_DEV_GPU_TEMP{nvswitch="1"} 50\n'
    body += b'DCGM_FI_DEV_GPU_TEMP{gpu="x",UUID="d"} 1\ngo_goroutines 12\n'
    telemetry = decode_metrics(body, "node")
    assert [gpu.index for gpu in telemetry.gpus] == [2, 11]
    assert telemetry.missing(4) == (0, 1, 3)


def test_a_page_of_something_else_is_a_wrong_reply():
    for body in (b"go_goroutines 12\n", b"", b"\xff", b"<html>", b"DCGM_FI_DEV_GPU_TEMP{gpu=", b"a b c"):
        with pytest.raises(DeviceReplyError, match="node"):
            decode_metrics(body, "node")
    many = "".join(f'DCGM_FI_DEV_GPU_TEMP{{gpu="{n}",UUID="u"}} 1\n' for n in range(65))
    with pytest.raises(DeviceReplyError, match="more than 64 GPUs"):
        decode_metrics(many.encode(), "node")


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_page_whatever_makes_the_codec_fail_otherwise(noise, cut):
    good = page(("DCGM_FI_DEV_GPU_TEMP", "40"), ("DCGM_FI_DEV_POWER_USAGE", "66.5"))
    for body in (noise, good[:cut] + noise, good[:cut] + noise + good[cut:]):
        try:
            decode_metrics(body, "node")
        except DeviceReplyError as error:
            assert "node" in str(error)  # noqa: PT017


LABEL = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=12
)


@given(
    st.dictionaries(st.sampled_from(["pod", "b", "modelName"]), LABEL),
    st.floats(0, 5000),
    st.sampled_from(["", " 1700000000"]),
)
def test_lines_are_taken_apart_as_prometheus_does(labels, value, stamp):
    escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in labels.items()}
    text = ",".join(f'{k}="{v}"' for k, v in ({"gpu": "3", "UUID": "GPU-a"} | escaped).items())
    line = f"DCGM_FI_DEV_POWER_USAGE{{{text}}} {value!r}{stamp}\n"
    ((sample,),) = [family.samples for family in text_string_to_metric_families(line)]
    (gpu,) = decode_metrics(line.encode(), "node").gpus
    assert (gpu.power_w, gpu.index, gpu.uuid) == (sample.value, 3, "GPU-a")
    assert gpu.model == sample.labels.get("modelName", "")


# FACTS §6, row by row: code, what to do.
DOCUMENTED = [
    (13, XidAction.RESTART_APP),
    (31, XidAction.RESTART_APP),
    (48, XidAction.DRAIN_AND_RESET),
    (63, XidAction.NONE),
    (64, XidAction.RESET_GPU),
    (74, XidAction.CHECK_NVLINK),
    (79, XidAction.REBOOT_NODE),
    (92, XidAction.NONE),
    (94, XidAction.RESTART_APP),
    (95, XidAction.RESET_GPU),
    (119, XidAction.RESET_GPU),
    (120, XidAction.RESET_GPU),
]


@pytest.mark.parametrize(("code", "action"), DOCUMENTED)
def test_xids_ask_for_what_the_catalogue_says(code, action):
    assert xid_of(code).action is action
    assert xid_of(code).takes_gpu_out is (action not in (XidAction.NONE, XidAction.RESTART_APP))
    assert xid_of(code).kills_workload is (action is not XidAction.NONE)


def test_repeated_or_unknown_xids_end_at_support():
    assert {xid_of(code).then for code in (64, 74, 79, 92)} == {XidAction.CONTACT_SUPPORT}
    assert (xid_of(63).then, xid_of(500).action) == (XidAction.NONE, XidAction.CONTACT_SUPPORT)
    assert all(code == xid.code and xid.meaning for code, xid in XIDS.items())


def gpu(**changes) -> GpuTelemetry:
    base = {
        "model": "NVIDIA H100 80GB HBM3",
        "temperature_celsius": 60.0,
        "utilization_fraction": 0.95,
        "sm_clock_mhz": 1980.0,
    }
    return GpuTelemetry(0, "GPU-a", hostname="node1", **base | changes)


def test_full_memory_is_no_fault():
    assert issues_of(gpu(memory_used_bytes=81_559 * 2**20, memory_total_bytes=81_559 * 2**20)) == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature_celsius": 80.0}, []),
        ({"temperature_celsius": 80.5}, [("warning", "elevated_temperature")]),
        ({"temperature_celsius": 85.5}, [("critical", "high_temperature")]),
        ({"memory_temperature_celsius": 96.0}, [("warning", "elevated_memory_temperature")]),
        ({"last_xid": 63}, [("warning", "xid")]),
        ({"last_xid": 95, "temperature_celsius": 81.0}, [("critical", "xid"), ("warning", "elevated_temperature")]),
        ({"has_remap_failed": True}, [("critical", "row_remap_failure")]),
        ({"sm_clock_mhz": 1200.0, "power_w": 400.0}, [("warning", "throttled")]),
        ({"sm_clock_mhz": 1200.0, "power_w": 690.0}, []),
        ({"sm_clock_mhz": 345.0, "utilization_fraction": 0.02}, []),
        ({"temperature_celsius": None, "utilization_fraction": None, "sm_clock_mhz": None}, []),
    ],
)
def test_issues_come_from_one_table_of_limits(changes, expected):
    assert [(issue.severity, issue.issue_type) for issue in issues_of(gpu(**changes))] == expected


def test_a_capped_board_is_slow_without_being_throttled():
    slow = gpu(sm_clock_mhz=1500.0, power_w=345.0)
    assert [issue.issue_type for issue in issues_of(slow)] == ["throttled"]
    assert issues_of(slow, cap_w=350.0) == ()


def test_limits_differ_by_model():
    assert limits_of("NVIDIA H100 PCIe").max_power_w == 350
    assert issues_of(gpu(model="NVIDIA A100-SXM4-80GB", sm_clock_mhz=1380.0)) == ()
    assert limits_of("something new").critical_celsius == 85


@pytest.mark.parametrize(
    ("state", "power_w", "cap_w", "expected"),
    [
        (DeviceState.IDLE, 70.0, 700.0, True),
        (DeviceState.IDLE, 70.0, 200.0, True),
        (DeviceState.CURTAILED, 650.0, 700.0, False),
        (DeviceState.TRAINING, 660.0, None, True),
        (DeviceState.TRAINING, 70.0, 700.0, False),
        (DeviceState.INFERENCE_BATCH, 200.0, 200.0, True),
        (DeviceState.INFERENCE_REALTIME, 115.0, 700.0, True),
        (DeviceState.INFERENCE_REALTIME, 70.0, 700.0, False),
    ],
)
def test_power_fits_a_state_or_not(state, power_w, cap_w, expected):
    assert draws_like(state, power_w, cap_w, "NVIDIA H100 80GB HBM3") is expected


@pytest.mark.parametrize(
    ("row", "least_s", "most_s"),
    [
        ("start/small/cold", 37.6, 58.1),
        ("start/large/cold", 90.0, 120.0),
        ("start/small/streamed", 7.53, 14.34),
        ("resume/1/small", 0.1, 0.8),
        ("resume/1/large", 3.0, 6.0),
        ("resume/2/small", 0.85, 2.58),
        ("resume/cuda", 4.7, 6.49),
    ],
)
def test_timings_with_a_published_range_are_drawn_from_all_of_it(row, least_s, most_s):
    drawn = [duration_s(7, row, "one", 0, f"r{n}") for n in range(400)]
    assert least_s <= min(drawn) <= least_s + 0.05 * (most_s - least_s)
    assert most_s - 0.05 * (most_s - least_s) <= max(drawn) <= most_s


def test_a_timing_is_its_requests_own_whatever_else_is_drawn():
    alone = duration_s(7, "stop", "one", 8, "a")
    for n in range(20):
        duration_s(7, "stop", "one", 8, f"b{n}")
    assert duration_s(7, "stop", "one", 8, "a") == alone
    assert len({duration_s(seed, "stop", site, slot, "a") for seed in (7, 8) for site in "xy" for slot in (0, 8)}) == 8
    assert all(0 < row.least_s <= row.most_s and row.source for row in TIMINGS.values())
