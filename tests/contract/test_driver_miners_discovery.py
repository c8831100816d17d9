"""Discovery against the simulated miners: who is there, who hangs, and what `hcp discover` makes of it."""

import asyncio
import errno
import json
import os
import sys

import pytest

from hcp_pipelines.devices.discovery import probe
from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.discovery.scan import scan
from hcp_pipelines.devices.miner.telemetry import Dialect, MinerOptions
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.fleet.apply import apply
from simulators import faults
from tests.support.cli import hcp  # noqa: F401 - a fixture
from tests.support.edge import ROOT
from tests.support.miner_driver import options_of
from tests.support.miner_site import FACILITY, document
from tests.support.miners import Hall

NAMES = ("stock", "whatsminer", "whatsminer-v3@closed-4028", "luxos", "stock@no-joined", "whatsminer@1")
KINDS = (
    Dialect.ANTMINER,
    Dialect.WHATSMINER_V2,
    Dialect.WHATSMINER_V3,
    Dialect.LUXOS,
    Dialect.ANTMINER,
    Dialect.WHATSMINER_V2,
)
ADDRESSES = expand(["127.16.0.1-127.16.0.120"])


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, *NAMES, is_mapped=False) as hall:
        yield hall


async def test_everybody_is_found_with_name_and_address(hall):
    progress = []
    told = (SystemClock(), lambda *args: progress.append(args))
    found = await scan(ADDRESSES, options_of(hall), *told, log_on=set(ADDRESSES))
    there = [f"127.16.0.{16 * n + m + 1}" for n in range(len(NAMES)) for m in range(4)]
    assert [one.address for one in found.found] == there
    assert [one.dialect for one in found.found] == [kind for kind in KINDS for _ in range(4)]
    for one in found.found:
        is_off_api_1 = one.address in there[20:]  # it tells no model while it is off
        assert (one.model in {"S21", "M60S"}) != is_off_api_1
        assert one.mac == "02:48:7F:10:00:{:02X}".format(int(one.address.rpartition(".")[2]))
        assert one.serial.startswith("HCP0213")
        assert one.problem == ""
    assert found.hung == []
    assert progress[-1] == ("identify", 24, 24)
    assert ("probe", 120, 120) in progress


async def test_hung_and_silent_addresses_are_told_apart(hall):
    hall.break_(0, faults.HUNG)
    hall.break_(1, faults.UNREACHABLE)
    found = await scan(ADDRESSES[:4], options_of(hall, deadline_s=0.5), SystemClock(), lambda *_: None)
    assert found.hung == ["127.16.0.1"]
    assert [one.address for one in found.found] == ["127.16.0.3", "127.16.0.4"]


async def test_a_miner_whose_pages_are_shut_is_found_with_what_is_wrong(hall):
    options = options_of(hall, web_port=1)
    found = await scan(ADDRESSES[:1], options, SystemClock(), lambda *_: None, log_on=set(ADDRESSES))
    (one,) = found.found
    assert (one.dialect, one.mac) == (Dialect.ANTMINER, "")
    assert "get_system_info" in one.problem


async def test_a_stranger_that_says_it_is_a_stock_antminer_is_shown_no_password(tmp_path):
    """A digest of the stock password is all that it takes to guess it: only expected addresses are sent one."""
    asked = []

    async def page(reader, writer):
        asked.append((await reader.read(65_536)).decode())
        writer.write(b"HTTP/1.1 401 Unauthorized\r\n")
        writer.write(b'WWW-Authenticate: Digest realm="antMiner Configuration", nonce="1", qop="auth"\r\n')
        writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def version(reader, writer):
        await reader.read(65_536)
        writer.write(b'{"VERSION":[{"BMMiner":"1.0","CompileTime":"x","Type":"Antminer S21"}]}\0')
        writer.close()

    api, web = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (version, page)]
    ports = {"api_port": api.sockets[0].getsockname()[1], "web_port": web.sockets[0].getsockname()[1]}
    options = MinerOptions(**ports, v3_port=1, deadline_s=2.0)
    (one,) = (await scan(["127.0.0.1"], options, SystemClock(), lambda *_: None)).found
    assert (one.dialect, one.model, one.mac, asked) == (Dialect.ANTMINER, "S21", "", [])
    assert "not at an expected address" in one.problem
    await scan(["127.0.0.1"], options, SystemClock(), lambda *_: None, log_on={"127.0.0.1"})
    assert "Digest" in asked[-1]
    for server in (api, web):
        server.close()


def test_addresses_that_can_not_be_looked_at_are_told_with_the_reason(hcp, monkeypatch):  # noqa: F811
    async def unreachable(*_):
        raise OSError(errno.ENETUNREACH, "")

    monkeypatch.setattr(probe, "_say", unreachable)
    done = hcp("discover", "10.255.0.0/30", "--kind", "miners")
    assert "3 could not be looked at from here: Network is unreachable (10.255.0.1)" in done.out
    told = json.loads(hcp("discover", "10.255.0.0/30", "--kind", "miners", "--json").out)
    assert told["missed"] == ["10.255.0.1", "10.255.0.2", "10.255.0.3"]
    assert told["missed_because"] == {"Network is unreachable": 3}


async def test_the_command_shows_compares_and_applies(hall, database, settings, tmp_path):
    groups = (("a", "S21", "stock", 4), ("b", "M60S", "whatsminer", 4))
    file = document(groups, **{f"{n}_port": hall.port(p) for n, p in (("api", 4028), ("web", 80), ("v3", 4433))})
    gapped = (file.groups[0], file.groups[1].model_copy(update={"addresses": ("127.16.0.17-20",)}))
    apply(database, file.model_copy(update={"groups": gapped}), "test")
    ports = ["--api-port", hall.port(4028), "--web-port", hall.port(80), "--v3-port", hall.port(4433)]
    arguments = [
        "discover",
        "127.16.0.1-20",
        *map(str, ports),
        "--facility",
        FACILITY,
        "--state-dir",
        settings.state_dir,
    ]
    first = json.loads(await _run(*arguments, "--json"))
    assert (first["addresses"], len(first["found"]), first["hung"]) == (20, 8, [])
    assert {change["kind"] for change in first["changes"]} == {"discovered"}
    assert "generation" not in first
    applied = await _run(*arguments, "--apply")
    assert "8 discovered" in applied
    assert f"{FACILITY}: inventory generation 1" in applied
    again = await _run(*arguments, "--apply")
    assert f"{FACILITY}: nothing changed" in again
    assert "20 addresses, 8 devices (4 antminer, 4 whatsminer-v2), 0 hung" in again


async def _run(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hcp_pipelines.cli.main", *map(str, arguments), cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["10.0.0.0/8"], "limit"),
        (["miner-1"], "no range"),
        (["10.0.0.1", "--apply"], "name it with --facility"),
    ],
)
def test_wrong_usage_is_said_in_one_line(hcp, arguments, words):  # noqa: F811
    done = hcp("discover", *arguments)
    assert done.code == 2
    assert words in done.err
