"""One device that answers with malice, among honest ones: it is out, and the others go on as before."""

import asyncio
import gzip
import json
import re
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import numpy as np
import pytest
from pydantic import SecretStr

from hcp_pipelines.devices.discovery.found import Found
from hcp_pipelines.devices.gpu_node.agent_codec import decode_identity
from hcp_pipelines.devices.gpu_node.boards import Level as GpuLevel
from hcp_pipelines.devices.gpu_node.exporter_codec import decode_metrics
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup, GpuNodeOptions
from hcp_pipelines.devices.gpu_node.site import GpuNodeSite
from hcp_pipelines.devices.gpu_node.transport import Answer, NodeTransport
from hcp_pipelines.devices.gpu_node.transport import new_client as node_client
from hcp_pipelines.devices.miner.api import APIError, LuxosApi
from hcp_pipelines.devices.miner.site import MinerApiSite
from hcp_pipelines.devices.miner.telemetry import Level, MinerGroup, MinerOptions
from hcp_pipelines.devices.miner.web import new_client as miner_client
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import DeviceReplyError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.slots import encode_slots

HOSTILE = "127.0.0.4"
LUX = {"STATUS": [{"STATUS": "S", "Description": "LUXminer 2025"}], "VERSION": [{"API": "3.7", "Type": "Antminer S21"}]}
WHATSMINER = {"STATUS": [{"STATUS": "S", "Description": "btminer"}], "VERSION": [{"API": "2.0"}]}


def poll(hashrate="200000"):
    ok = [{"STATUS": "S"}]
    parts = {
        "power": [{"STATUS": ok, "POWER": [{"Watts": 3500, "PSU": True}]}],
        "summary": [{"STATUS": ok, "SUMMARY": [{"GHS 5s": "HASHRATE"}]}],
        "config": [{"STATUS": ok, "CONFIG": [{"CurtailMode": "None", "Profile": "default"}]}],
    }
    return json.dumps(parts).replace('"HASHRATE"', hashrate)


PROFILES = json.dumps({"STATUS": [{"STATUS": "S"}], "PROFILES": [{"Profile Name": "default", "Watts": 3500}]})


def honest(command):
    return {"version": json.dumps(LUX), "profiles": PROFILES}.get(command) or poll()


def whatsminer(api_version):
    answers = {
        "version": json.dumps(WHATSMINER),
        "get_version": json.dumps(
            {"STATUS": "S", "Code": 131, "Msg": {"api_ver": api_version, "fw_ver": "20230701.1"}}
        ),
    }
    return lambda command: answers.get(command, '{"STATUS":"E","Code":14,"Msg":"invalid cmd"}')


@asynccontextmanager
async def miners(hostile):
    """Four addresses on one port; one of them answers as told."""

    async def answer(reader, writer):
        request = json.loads((await reader.read(65_536)).rstrip(b"\0\n"))
        is_hostile = writer.get_extra_info("sockname")[0] == HOSTILE
        writer.write((hostile if is_hostile else honest)(request.get("command", request.get("cmd"))).encode() + b"\0")
        writer.close()

    servers = [await asyncio.start_server(answer, "127.0.0.1", 0)]
    port = servers[0].sockets[0].getsockname()[1]
    servers += [await asyncio.start_server(answer, f"127.0.0.{n}", port) for n in (2, 3, 4)]
    yield port
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "hostile",
    [
        lambda command: json.dumps(LUX) if command == "version" else poll("1" + "0" * 400),
        whatsminer("2." + "9" * 5000),
        whatsminer("2.².3"),
        lambda command: json.dumps(LUX) if command == "version" else '{"power":' + "[" * 900 + "]" * 900 + "}",
        lambda command: json.dumps(LUX) if command == "version" else '{"x":1,' + '"error_code":["' * 8000 + "}",
    ],
    ids=["400-digits", "long-version", "superscript", "deep", "pattern"],
)
async def test_a_miner_whose_answer_sets_off_a_defect_is_out_alone(hostile, tmp_path):
    readings = []
    async with miners(hostile) as port:
        levels = (
            Level(DeviceState.CURTAILED, 25.0, 0.0, 50),
            Level(DeviceState.MINING_FULL, 3500.0, 200.0, 50),
        )
        group = MinerGroup(0, tuple(f"127.0.0.{n}" for n in (1, 2, 3, 4)), "luxos", levels, "feeder-1")
        options = MinerOptions(api_port=port, v3_port=1, web_port=1, deadline_s=2.0)
        site = MinerApiSite([group], 4, options, tmp_path, SystemClock(), readings.append)
        await site.connect(50)
        while len(readings) < 3:
            await asyncio.sleep(0.02)
        await site.close()
    for reading in readings:
        assert reading.values[:3].tolist() == [3500.0] * 3
        assert np.isnan(reading.values[3])


def test_a_reply_full_of_beginnings_of_a_list_costs_no_more_than_its_length():
    """pyasic's own pattern takes four times as long for twice as many; ours is a search."""
    began_s = time.process_time()
    with pytest.raises(APIError, match="does not end"):
        LuxosApi._load_api_data(b'{"x":1,' + b'"error_code":["' * 17_000 + b"}")
    assert time.process_time() - began_s < 1.0  # pyasic's takes over 3 s; this a millisecond


def test_a_list_written_like_a_dict_is_still_mended():
    assert LuxosApi._load_api_data(b'{"Msg":{"error_code":["206":"2022-01-01","600":"x"]}}\n') == {
        "Msg": {"error_code": {"206": "2022-01-01", "600": "x"}}
    }


# -- GPU nodes --------------------------------------------------------------------------------------------------------

PAGE = "".join(
    f'DCGM_FI_DEV_POWER_USAGE{{gpu="{n}",UUID="GPU-{n}",modelName="NVIDIA H100 80GB HBM3"}} 105\n' for n in range(8)
)
GPUS = [{"gpu": n, "uuid": f"GPU-{n}", "health": "ok", "state": "idle"} for n in range(8)]


@asynccontextmanager
async def nodes(operation):
    """Two nodes; the second answers writes, and questions about operations, as told."""

    async def answer(reader, writer):
        is_hostile = writer.get_extra_info("sockname")[0] == "127.0.0.2"
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        method, path, _ = head.split(" ", 2)
        good = {"id": "op-1", "kind": "start", "gpus": [0], "state": "running"}
        is_write = method == "POST" or "/operations" in path
        body = (operation if is_hostile else good) if is_write else {"gpus": GPUS}
        text = PAGE if path == "/metrics" else json.dumps(body)
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
        )
        writer.close()

    servers = [await asyncio.start_server(answer, "127.0.0.1", 0)]
    port = servers[0].sockets[0].getsockname()[1]
    servers.append(await asyncio.start_server(answer, "127.0.0.2", port))
    yield port
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "operation",
    [
        {"id": "x\ny", "kind": "start", "gpus": [0], "state": "running"},
        {"id": "z" * 70_000, "kind": "start", "gpus": [0], "state": "running"},
        {"id": "../../v1/node", "kind": "start", "gpus": [0], "state": "running"},
        {"id": "op-1", "kind": "start", "gpus": [0], "state": "a word that makes a label"},
    ],
    ids=["control-character", "long", "path", "state"],
)
async def test_a_node_whose_operations_have_impossible_names_is_refused_alone(operation, tmp_path):
    readings = []
    async with nodes(operation) as port:
        options = GpuNodeOptions(
            exporter_port=port, agent_port=port, deadline_s=2, exporter_interval_s=0.1, token=SecretStr("t" * 32)
        )
        levels = (GpuLevel(DeviceState.IDLE, 450.0), GpuLevel(DeviceState.INFERENCE_BATCH, 1300.0))
        group = GpuGroup(0, 16, ("127.0.0.1", "127.0.0.2"), levels)
        site = GpuNodeSite([group], 16, options, tmp_path, SystemClock(), readings.append)
        await site.connect(50)
        sent = site.send_state(
            uuid4(), 0, int(DeviceState.INFERENCE_BATCH), encode_slots(np.array([0, 8], dtype=np.uint32))
        )
        accepted, refused = await site.finish_state(sent)
        so_far = len(readings)
        while len(readings) < so_far + 3:
            await asyncio.sleep(0.02)
        await site.close()
    assert (accepted.tolist(), refused.tolist()) == ([0], [8])


def test_a_page_of_more_gpus_than_a_node_has_is_given_up_where_that_shows():
    page = "".join(f'DCGM_FI_DEV_POWER_USAGE{{gpu="1",UUID="GPU-{n}"}} 1\n' for n in range(5000))
    with pytest.raises(DeviceReplyError, match="more than 64 GPUs"):
        decode_metrics(page.encode(), "n")
    with pytest.raises(DeviceReplyError, match="no sample"):
        decode_metrics(('DCGM_FI_X{gpu="1",UUID="' + "u" * 2000 + '"} 1\n').encode(), "n")


@asynccontextmanager
async def one_page(*headers, body=b"{}"):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        seen.append(writer)
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(h + b"\r\n" for h in headers))
        writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        writer.close()

    seen = []
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_reply_that_would_unpack_to_a_flood_is_not_unpacked():
    bomb = gzip.compress(gzip.compress(bytes(10_000_000)))
    async with one_page(b"Content-Encoding: gzip, gzip", body=bomb) as port:
        transport = NodeTransport("127.0.0.1", exporter_port=port, agent_port=port)
        with pytest.raises(DeviceReplyError, match="packed as 'gzip, gzip'"):
            await transport.get("/v1/node")
        await transport.close()


@pytest.mark.parametrize("new_client", [node_client, miner_client])
async def test_a_device_sets_no_cookies(new_client):
    async with one_page(b"Set-Cookie: a=1", b"Set-Cookie: b=2; Domain=127.0.0.1; Path=/") as port:
        client = new_client(2)
        await client.get(f"http://127.0.0.1:{port}/")
        assert len(client.cookies.jar) == 0
        await client.aclose()


def test_what_a_device_says_of_itself_is_short_and_fit_for_a_table():
    found = Found(
        "10.0.0.1", "luxos", model="M\ud800", serial="s" * 1_000_000, problem="a\nb\x1b[2J", boards=("\udfff",) * 100
    )
    assert (found.model, len(found.serial), found.problem, len(found.boards)) == ("M?", 200, "a?b?[2J", 64)
    assert "".join((found.model, *found.boards)).encode()


@pytest.mark.parametrize("labels", ["}", "{}", 'gpu="0"}', 'a="' + "\\" * 900, 'a="b"' * 150, "a=" * 400, 'a="b",}'])
def test_labels_that_are_none_are_refused_at_once(labels):
    page = f"DCGM_FI_DEV_GPU_TEMP{{{labels}}} 1\n"
    began_s = time.process_time()
    with pytest.raises(DeviceReplyError):
        decode_metrics(page.encode(), "n")
    assert time.process_time() - began_s < 0.5  # prometheus_client's parser never comes back from some of these


@pytest.mark.parametrize(
    "changes",
    [{"memory_mib": float("nan")}, {"memory_mib": 1e300}, {"compute_capability": "9\0"}, {"gpu_model": "x" * 1000},
     {"power_cap_bounds_w": [200, float("inf")]}],
)  # fmt: skip
def test_a_node_that_can_not_be_described_so_is_a_wrong_reply(changes):
    good = {
        "api_version": "1", "hostname": "n", "driver_version": "550", "gpu_model": "H100", "compute_capability": "9.0",
        "memory_mib": 81_559, "power_cap_bounds_w": [200, 700], "states": ["idle"], "is_drained": False,
    }  # fmt: skip

    def answer(node):
        return Answer(200, json.dumps(node).encode(), "application/json")

    assert decode_identity(answer(good), (), "n").specification.max_power_w == 700
    with pytest.raises(DeviceReplyError):
        decode_identity(answer(good | changes), (), "n")
