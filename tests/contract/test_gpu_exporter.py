"""The exporter's port over real sockets, read with an independent client: Prometheus's own parser, not our codec."""

import asyncio
import re
import socket
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from simulators import faults
from simulators.addresses import address_of
from tests.support.gpus import FIRST_GPU, gpu_world, plain_http, talk

COUNTERS = {
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "Total energy consumption since boot (in mJ).",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "Total number of PCIe retries.",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": "Number of remapped rows for uncorrectable errors",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": "Number of remapped rows for correctable errors",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": "Total number of NVLink bandwidth counters for all lanes",
}
BOTH = "including both protocol headers and data payloads - in bytes per second."
GAUGES = {
    "DCGM_FI_DEV_SM_CLOCK": "SM clock frequency (in MHz).",
    "DCGM_FI_DEV_MEM_CLOCK": "Memory clock frequency (in MHz).",
    "DCGM_FI_DEV_MEMORY_TEMP": "Memory temperature (in C).",
    "DCGM_FI_DEV_GPU_TEMP": "GPU temperature (in C).",
    "DCGM_FI_DEV_POWER_USAGE": "Power draw (in W).",
    "DCGM_FI_DEV_GPU_UTIL": "GPU utilization (in %).",
    "DCGM_FI_DEV_MEM_COPY_UTIL": "Memory utilization (in %).",
    "DCGM_FI_DEV_ENC_UTIL": "Encoder utilization (in %).",
    "DCGM_FI_DEV_DEC_UTIL": "Decoder utilization (in %).",
    "DCGM_FI_DEV_XID_ERRORS": "Value of the last XID error encountered.",
    "DCGM_FI_DEV_FB_FREE": "Framebuffer memory free (in MiB).",
    "DCGM_FI_DEV_FB_USED": "Framebuffer memory used (in MiB).",
    "DCGM_FI_DEV_FB_RESERVED": "Framebuffer memory reserved (in MiB).",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "Whether remapping of rows has failed",
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS": "vGPU License status",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "Ratio of time the graphics engine is active.",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "Ratio of cycles the tensor (HMMA) pipe is active.",
    "DCGM_FI_PROF_DRAM_ACTIVE": "Ratio of cycles the device memory interface is active sending or receiving data.",
    "DCGM_FI_PROF_PCIE_TX_BYTES": f"The rate of data transmitted over the PCIe bus - {BOTH}",
    "DCGM_FI_PROF_PCIE_RX_BYTES": f"The rate of data received over the PCIe bus - {BOTH}",
}
LINE = re.compile(
    r'^DCGM_FI_DEV_GPU_TEMP\{gpu="3",UUID="GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",pci_bus_id="00000000:61:00\.0",'
    r'device="nvidia3",modelName="NVIDIA H100 80GB HBM3",Hostname="one-h100-node-0000",'
    r'DCGM_FI_DRIVER_VERSION="550\.90\.07"\} \d+$',
    re.MULTILINE,
)


def families(text: str) -> dict:
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(text: str, name: str) -> dict[str, float]:
    """By gpu."""
    return {sample.labels["gpu"]: sample.value for sample in families(text)[name].samples}


async def test_every_default_counter_is_there_with_its_type_and_text(tmp_path):
    async with gpu_world(tmp_path) as world:
        reply = await world.metrics()
    assert reply.headers["content-type"] == "text/plain; version=0.0.4"
    found = families(reply.text)
    assert {name: family.documentation for name, family in found.items()} == COUNTERS | GAUGES
    assert {name for name, family in found.items() if family.type == "counter"} == set(COUNTERS)
    assert {family.type for name, family in found.items() if name in GAUGES} == {"gauge"}
    assert all(len(family.samples) == 8 for family in found.values())


async def test_labels_stand_in_the_exporters_order_and_counters_get_total_from_the_parser(tmp_path):
    async with gpu_world(tmp_path) as world:
        text = (await world.metrics()).text
    assert LINE.search(text), text[:2000]
    assert "_TOTAL_ENERGY_CONSUMPTION_total" not in text
    names = {sample.name for sample in families(text)["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].samples}
    assert names == {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION_total"}
    power = re.search(r"^DCGM_FI_DEV_POWER_USAGE\{.*\} (\S+)$", text, re.MULTILINE).group(1)
    assert re.fullmatch(r"\d+\.\d{6}", power)


async def test_memory_adds_up_to_the_board_and_energy_is_millijoules(tmp_path):
    async with gpu_world(tmp_path) as world:
        before = (await world.metrics()).text
        world.pass_time(3600)
        after = (await world.metrics()).text
    total = {
        sum(values(after, f"DCGM_FI_DEV_FB_{part}")[gpu] for part in ("USED", "FREE", "RESERVED")) for gpu in "01234567"
    }
    assert total == {81559}
    energy = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    for gpu, power_w in values(after, "DCGM_FI_DEV_POWER_USAGE").items():
        grown_mj = values(after, energy)[gpu] - values(before, energy)[gpu]
        assert grown_mj == pytest.approx(power_w * 3600 * 1000, rel=0.001)


async def test_our_codec_reads_the_page_as_prometheus_does(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        text, telemetry = (await world.metrics()).text, await node.read_telemetry()
    for name, attribute, factor in (
        ("DCGM_FI_DEV_POWER_USAGE", "power_w", 1),
        ("DCGM_FI_DEV_GPU_TEMP", "temperature_celsius", 1),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "energy_j", 1e-3),
        ("DCGM_FI_DEV_GPU_UTIL", "utilization_fraction", 0.01),
        ("DCGM_FI_DEV_FB_USED", "memory_used_bytes", 1_048_576),
        ("DCGM_FI_DEV_SM_CLOCK", "sm_clock_mhz", 1),
    ):
        read = {str(gpu.index): getattr(gpu, attribute) for gpu in telemetry.gpus}
        assert read == pytest.approx({gpu: value * factor for gpu, value in values(text, name).items()}), name
    assert {gpu.problems for gpu in telemetry.gpus} == {()}


async def test_values_are_repeated_between_two_collections(tmp_path):
    async with gpu_world(tmp_path) as world:
        first = (await world.metrics()).text
        world.pass_time(29)
        assert (await world.metrics()).text == first
        world.pass_time(2)
        assert (await world.metrics()).text != first


async def test_collecting_each_second_is_a_setting(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world:
        first = (await world.metrics()).text
        world.pass_time(1.01)
        assert (await world.metrics()).text != first


async def test_an_xid_appears_with_its_code_and_message(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world:
        quiet = (await world.metrics()).text
        world.impose(faults.XID, 2, xid=63)
        world.pass_time(2)
        loud = (await world.metrics()).text
    samples = {s.labels["gpu"]: s for s in families(loud)["DCGM_FI_DEV_XID_ERRORS"].samples}
    assert samples["2"].value == 63
    assert samples["2"].labels["err_code"] == "63"
    assert samples["2"].labels["err_msg"] == "ECC page retirement or row remapping recording event"
    assert {one.value for gpu, one in samples.items() if gpu != "2"} == {0}
    assert samples["1"].labels["err_msg"] == "No Error"
    assert list(samples["2"].labels)[-2:] == ["err_code", "err_msg"]
    uuid = next(s.labels["UUID"] for s in families(quiet)["DCGM_FI_DEV_XID_ERRORS"].samples if s.labels["gpu"] == "2")
    assert samples["2"].labels["UUID"] == uuid


async def test_remapped_rows_are_counted_for_ever(tmp_path):
    """The InfoROM keeps them over resets, the end of the fault and a restart of the world: `increase()` must not see a fall."""
    names = [f"DCGM_FI_DEV_{name}_REMAPPED_ROWS" for name in ("UNCORRECTABLE", "CORRECTABLE")]

    async def told(world):
        world.pass_time(2)
        text = (await world.metrics()).text
        return [values(text, name)["3"] for name in (*names, "DCGM_FI_DEV_ROW_REMAP_FAILURE")]

    async with gpu_world(tmp_path, collect_s=1.0) as world:
        assert await told(world) == [0, 0, 0]
        world.impose("ecc", 3, xid=94)
        assert await told(world) == [1, 1, 0]
        world.lift(faults.BY_RESTART, [3])
        assert await told(world) == [1, 1, 0]
        world.impose("xid", 3, xid=63)
        world.impose("xid", 3, xid=43)
        assert await told(world) == [2, 1, 0]
        world.impose("xid", 3, xid=64)
        world.lift(faults.BY_RESTART, [3])
        assert await told(world) == [3, 1, 1]
        assert values((await world.metrics()).text, names[0])["2"] == 0
        await world.transitions.save(always=True)
    async with gpu_world(tmp_path, collect_s=1.0) as again:
        again.pass_time(600)
        assert await told(again) == [3, 1, 1]


async def test_the_series_of_a_lost_gpu_vanish_and_the_others_stay(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world:
        world.impose(faults.FALLEN_OFF_BUS, 5, xid=79)
        world.pass_time(2)
        text = (await world.metrics()).text
    assert 'gpu="5"' not in text
    assert all({sample.labels["gpu"] for sample in one.samples} == set("0123467") for one in families(text).values())


async def test_a_value_that_is_missing_is_left_out_and_an_older_exporter_prints_dcgms_blank(tmp_path):
    for exporter, expected in (("current", set("0123567")), ("legacy", set("01234567"))):
        folder = tmp_path / exporter
        folder.mkdir()
        async with gpu_world(folder, collect_s=1.0, exporter=exporter) as world:
            world.impose(faults.NVLINK, 4, xid=74)
            world.pass_time(2)
            text = (await world.metrics()).text
        found = values(text, "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL")
        assert set(found) == expected
        is_legacy = exporter == "legacy"
        assert (found.get("4") == 9223372036854775794) is is_legacy
        assert ("pci_bus_id" not in text) is ("err_code" not in text) is is_legacy


async def test_the_host_label_is_a_setting(tmp_path):
    async with gpu_world(tmp_path, hostname_label="hostname") as world:
        text = (await world.metrics()).text
    assert 'hostname="one-h100-node-0000"' in text
    assert "Hostname" not in text


async def test_health_and_unknown_paths(tmp_path):
    async with gpu_world(tmp_path) as world, plain_http() as http:
        base = f"http://{world.at()}:{world.exporter_port}"
        health = await http.get(f"{base}/health")
        assert (health.status_code, health.text) == (200, "KO"), "as the real exporter, which is well then"
        for path in ("nothing", "metrics/", "Metrics"):
            missing = await http.get(f"{base}/{path}")
            assert (missing.status_code, missing.text) == (404, "404 page not found\n")


async def test_any_scraper_gets_the_one_text_format(tmp_path):
    """Content is not negotiated, compressed or refused by method, as in the real exporter."""
    accepts = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    async with gpu_world(tmp_path) as world, plain_http() as http:
        url = f"http://{world.at()}:{world.exporter_port}/metrics"
        plain = await http.get(url)
        told = await http.get(
            url,
            headers={"Accept": accepts, "Accept-Encoding": "gzip, zstd", "X-Prometheus-Scrape-Timeout-Seconds": "10"},
        )
        posted = await http.post(url, content=b"x=1")
        head = await http.head(url)
        old = await asyncio.to_thread(talk, world.at(), world.exporter_port, b"GET /metrics HTTP/1.0\r\n\r\n")
        queried = await http.get(f"{url}?collect[]=gpu")
    assert plain.text == told.text == posted.text == queried.text
    assert "content-encoding" not in told.headers
    assert {one.headers["content-type"] for one in (plain, told, posted, head)} == {"text/plain; version=0.0.4"}
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(plain.content)))
    assert old.startswith(b"HTTP/1.1 200 ")
    assert old.endswith(plain.content), "and the connection is closed"


async def test_identities_are_the_seeds_and_differ_between_nodes(tmp_path):
    seen = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        async with gpu_world(folder) as world:
            pages = [(await world.metrics(node)).text for node in (1, 0)]
        seen.append([re.findall(r'GPU_TEMP\{gpu="\d",UUID="([^"]+)"', page) for page in pages])
    assert seen[0] == seen[1]
    assert len({uuid for page in seen[0] for uuid in page}) == 16


async def test_only_a_nodes_own_address_answers(tmp_path):
    async with gpu_world(tmp_path) as world:
        strangers = [
            address_of(0, 0),
            address_of(0, FIRST_GPU + 1),
            address_of(0, FIRST_GPU + 16),
            address_of(1, 0),
            "127.0.0.1",
        ]
        for port in (world.exporter_port, world.agent_port):
            for address in strangers:
                with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                    async with plain_http() as http:
                        await http.get(f"http://{address}:{port}/metrics")
        assert (await world.metrics(1)).status_code == 200


async def test_what_does_not_arrive_on_a_loopback_address_is_dropped_at_once(tmp_path):
    own = _outward_address()
    if own is None:
        pytest.skip("this machine has no address beside loopback")
    async with gpu_world(tmp_path, within_s=60.0) as world:
        for port in (world.exporter_port, world.agent_port):
            began = time.monotonic()
            got = await asyncio.to_thread(talk, own, port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert got == b""
            assert time.monotonic() - began < 30


def _outward_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


@pytest.mark.parametrize("kind", [faults.NODE_LOST, faults.POWER_LOST])
async def test_a_lost_node_answers_on_neither_port(tmp_path, kind):
    async with gpu_world(tmp_path) as world:
        world.impose(faults.FALLEN_OFF_BUS, 5, xid=79)
        for gpu in range(8):
            world.impose(kind, gpu)
        world.pass_time(1)
        for port in (world.exporter_port, world.agent_port):
            assert await asyncio.to_thread(talk, world.at(), port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert (await world.metrics(1)).status_code == 200


async def test_a_thousand_gpus_behind_one_process(tmp_path):
    nodes = 130
    async with gpu_world(tmp_path, gpus=8 * nodes) as world, plain_http() as http:
        began = time.monotonic()
        replies = []
        for first in range(0, nodes, 26):
            urls = [f"http://{world.at(n)}:{world.exporter_port}/metrics" for n in range(first, first + 26)]
            replies += await asyncio.gather(*(http.get(url, timeout=60) for url in urls))
        seconds = time.monotonic() - began
    assert (
        len({uuid for reply in replies for uuid in re.findall(r'GPU_TEMP\{gpu="\d",UUID="([^"]+)"', reply.text)})
        == 1040
    )
    assert seconds < 15
