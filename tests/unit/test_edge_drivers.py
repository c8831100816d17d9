"""Which driver a facility gets from its file, and what a gateway refuses to begin with."""

import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from hcp_pipelines.devices.bulk.device import BulkSite
from hcp_pipelines.devices.many import ManySites
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, DeviceRefusedError
from hcp_pipelines.edge.config import EdgeConfig, FacilityConfig
from hcp_pipelines.edge.drivers import make_site, period_of

LADDER = [{"state": 0, "power_kw": 0.025, "settle_s": 40}, {"state": 3, "power_kw": 3.5, "settle_s": 50}]
BULK = {"kind": "bulk", "address": "unix:/nowhere.sock", "site": "f"}
MINERS = {"kind": "miner_api", "poll_period_ms": 4000}


def group(name, first, devices=2, **more):
    return {
        "group_id": name, "feeder_id": "f1", "first_slot": first, "devices": devices, "pue": 1.1, "ladder": LADDER, **more,
    }  # fmt: skip


def facility(driver=BULK, groups=None):
    groups = groups or [group("a", 0), group("b", 2)]
    return FacilityConfig.model_validate({"facility_id": "f", "generation": 1, "driver": driver, "groups": groups})


def made(config, folder):
    return make_site(config, folder, SystemClock(), 500, lambda _: None)


def test_one_driver_is_one_site_and_two_are_several(tmp_path):
    assert type(made(facility(), tmp_path)) is BulkSite
    miners = facility(MINERS, [group("a", 0, addresses=["10.0.0.1-2"])])
    assert type(made(miners, tmp_path)).__name__ == "MinerApiSite"
    mixed = facility(BULK, [group("a", 0, addresses=["10.0.0.1-2"], driver=MINERS), group("b", 2)])
    assert type(made(mixed, tmp_path)) is ManySites
    assert [period_of(config, 500, 1.0) for config in (facility(), miners, mixed)] == [500, 4000, 4000]


def test_a_miner_knows_its_address_and_its_levels(tmp_path):
    ladder = [LADDER[0], LADDER[1] | {"hash_rate_th_per_s": 200.0}]
    site = made(facility(MINERS, [group("a", 3, addresses=["10.0.0.9", "10.0.0.1"], ladder=ladder)]), tmp_path)
    miner = site.fleet.by_slot[4]
    assert (miner.address, miner.group.level(3).power_w, miner.group.level(3).hash_rate_th_per_s) == (
        "10.0.0.1",
        3500,
        200,
    )
    assert miner.group.level(2) is None


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([group("a", 0)], "group a has 2 devices and 0 addresses"),
        ([group("a", 0, addresses=["10.0.0.1-3"])], "2 devices and 3 addresses"),
        (
            [group("a", 0, addresses=["10.0.0.1-2"]), group("b", 2, addresses=["10.0.0.2-3"])],
            "10.0.0.2 is in group a and",
        ),
        ([group("a", 0, addresses=["10.0.0"])], "no range of addresses"),
        ([group("a", 0, addresses=["10.0.0.1-2"], driver={"kind": "telepathy"})], "telepathy"),
    ],
)
def test_miners_without_their_addresses_are_refused(groups, words):
    with pytest.raises(ValueError, match=words):
        facility(MINERS, groups)


GPU_LADDER = [{"state": 1, "power_kw": 0.45, "settle_s": 50}, {"state": 5, "power_kw": 1.3, "settle_s": 150}]
NODES = {"kind": "gpu_node"}


def gpus(devices, *addresses, ladder=GPU_LADDER):
    return [group("g", 0, devices, addresses=list(addresses), ladder=ladder)]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (gpus(9, "10.0.0.1"), "9 GPUs in 2 nodes and 1 addresses"),
        (gpus(8, "10.0.0.1-2"), "8 GPUs in 1 nodes and 2 addresses"),
        (gpus(8, "10.0.0.1", ladder=LADDER), "no state mining_full"),
    ],
)
def test_nodes_that_do_not_fit_their_group_are_refused(groups, words):
    with pytest.raises(ValueError, match=words):
        facility(NODES, groups)


@pytest.mark.parametrize(
    ("workloads", "words"),
    [({1: {}}, "workloads"), ({5: {"gpus_each": 9}}, "gpus_each"), ({5: {"modle": "x"}}, "modle")],
)
def test_what_is_loaded_is_checked(workloads, words):
    with pytest.raises(ValueError, match=words):
        facility(NODES | {"workloads": workloads}, gpus(8, "10.0.0.1"))


@pytest.mark.parametrize(
    ("text", "mode", "words"), [("secret", 0o644, "chmod 600"), (" \n", 0o600, "empty"), (None, 0, "token_file")]
)
def test_a_token_file_is_closed_and_not_empty(tmp_path, text, mode, words):
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=words):
        made(facility(NODES | {"token_file": str(path)}, gpus(8, "10.0.0.1")), tmp_path)


def test_each_node_may_have_a_token_of_its_own_and_one_without_is_only_read(tmp_path):
    for address in ("10.0.0.1", "10.0.0.3"):
        (tmp_path / f"{address}.token").write_text(f"of {address}\n")
        (tmp_path / f"{address}.token").chmod(0o600)
    own = NODES | {"token_file": str(tmp_path / "{address}.token")}
    options = made(facility(own, gpus(24, "10.0.0.1-3")), tmp_path / "edge")._options
    tokens = [options.token_of(f"10.0.0.{n}") for n in (1, 2, 3)]
    assert [one and one.get_secret_value() for one in tokens] == ["of 10.0.0.1", None, "of 10.0.0.3"]
    (tmp_path / "10.0.0.3.token").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        made(facility(own, gpus(24, "10.0.0.1-3")), tmp_path / "edge")


@pytest.mark.parametrize(("said", "may"), [({}, False), ({"token_over_http": True}, True)])
async def test_a_token_leaves_this_machine_in_clear_text_only_where_the_file_says_so(tmp_path, said, may):
    import httpx  # not above: a process that imports this module looks whether the gateway loads it

    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o600)
    site = made(facility(NODES | {"token_file": str(tmp_path / "token")} | said, gpus(8, "192.0.2.1")), tmp_path)
    asked = []

    def answer(request):
        asked.append(request.headers.get("authorization"))
        return httpx.Response(202, stream=httpx.ByteStream(b"{}"))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:

        def drain(address):
            transport = site._device(replace(site.fleet.nodes[0], address=address))._transport
            transport._client = client
            return transport.post("/v1/node/drain", b"{}")

        writing = drain("192.0.2.1")
        if may:
            await writing
        else:
            with pytest.raises(DeviceRefusedError, match=r"192\.0\.2\.1: .*token_over_http: true"):
                await writing
        await drain("127.0.0.2")
    assert asked == ["Bearer secret"] * (2 if may else 1)


def test_real_devices_are_never_hurried(tmp_path):
    document = {
        "version": 1, "gateway": "g", "listen": "unix:x", "state_dir": tmp_path,
        "facilities": [facility().model_dump(mode="json")],
    }  # fmt: skip
    EdgeConfig.model_validate(document | {"simulated": True}).check_speed(60.0)
    real = EdgeConfig.model_validate(document | {"simulated": False})
    real.check_speed(1.0)
    with pytest.raises(ConfigError, match="60 times as fast: real devices need 1"):
        real.check_speed(60.0)


@pytest.mark.parametrize("name", ["../edge-b", "/tmp/x", "a/b", "..", "", "a\n"])
def test_a_facility_that_would_write_elsewhere_is_refused(name):
    with pytest.raises(ValidationError, match="facility_id"):
        FacilityConfig.model_validate(facility().model_dump(mode="json") | {"facility_id": name})


def test_a_facility_is_in_the_file_once(tmp_path):
    two = [facility().model_dump(mode="json")] * 2
    document = {
        "version": 1,
        "gateway": "g",
        "listen": "unix:x",
        "state_dir": tmp_path,
        "simulated": True,
        "facilities": two,
    }
    with pytest.raises(ValidationError, match="is there 2 times"):
        EdgeConfig.model_validate(document)


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("antminer: secret", 0o644, "chmod 600"),
        ("- a", 0o600, "mapping"),
        ("a: [", 0o600, "passwords_file"),
        (None, 0, "passwords_file"),
    ],
)
def test_a_passwords_file_is_closed_and_a_mapping(tmp_path, text, mode, words):
    path = tmp_path / "passwords.yaml"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    config = facility(MINERS | {"passwords_file": str(path)}, [group("a", 0, addresses=["10.0.0.1-2"])])
    with pytest.raises(ConfigError, match=words):
        made(config, tmp_path)


def test_its_passwords_reach_the_driver(tmp_path):
    path = tmp_path / "passwords.yaml"
    path.write_text("antminer: secret\n")
    path.chmod(0o600)
    config = facility(MINERS | {"passwords_file": str(path)}, [group("a", 0, addresses=["10.0.0.1-2"])])
    assert made(config, tmp_path)._options.passwords == {"antminer": "secret"}


def test_a_gateway_without_such_miners_does_not_load_their_library(tmp_path):
    program = (
        "import sys; from pathlib import Path; import hcp_pipelines.edge.__main__\n"
        "from tests.unit.test_edge_drivers import facility, made\n"
        f"made(facility(), Path({str(tmp_path)!r}))\n"
        "found = [n for n in sys.modules if n.partition('.')[0] in ('pyasic', 'httpx', 'pymodbus', 'psycopg', 'highspy')]\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
