"""`hcp edge`, `hcp curtail --direct`, `hcp tls`: real gateway processes, and no Postgres at all."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from hcp_pipelines.edge.log_files import read_log
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.support.cli import hcp
from tests.support.edge import BATCH, FIRST_GPU, FULL, IDLE, MINERS, ROOT, SLOTS, Owner, World, edge_document, until

__all__ = ["hcp"]

TOKEN = "t" * 43


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    yield path
    shutil.rmtree(path)


class Platform:
    """The state directory of a platform of which only world and gateway run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state_dir = folder, folder / "hcp"
        secrets = self.state_dir / "secrets" / "operators"
        secrets.mkdir(mode=0o700, parents=True)
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        roles = {"ann": "operator", "eve": "viewer"}
        listed = {"operators": {name: {"role": role, "token_sha256": digest} for name, role in roles.items()}}
        accounts = secrets.parent / "operators.yaml"
        accounts.write_text(yaml.safe_dump(listed))
        for path in (accounts, *(secrets / f"{name}.token" for name in roles)):
            path.touch(mode=0o600)
            path.chmod(0o600)
        for name in roles:
            (secrets / f"{name}.token").write_text(TOKEN)
        (self.state_dir / "edge").mkdir(mode=0o700)
        self.file = self.state_dir / "edge" / "gateway-1.yaml"
        document = edge_document(folder) | {"operators_file": str(accounts)}
        self.file.write_text(yaml.safe_dump(document))
        self.address = document["listen"]

    def environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith("HCP_")}
        return own | {"HCP_STATE_DIR": str(self.state_dir), "PGHOST": "/nonexistent"}

    def popen(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "hcp_pipelines.cli.main", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    async def hcp(self, *arguments: str) -> tuple[int, str]:
        process = self.popen(*arguments)
        output, _ = await asyncio.to_thread(process.communicate, timeout=60)
        return process.returncode, output

    async def start(self) -> None:
        self.gateway = self.popen("edge", "--config", str(self.file))
        await until((self.state_dir / "run" / "edge.json").exists, "the gateway is ready")


@contextlib.asynccontextmanager
async def running(folder, speed):
    world, platform = World(folder, speed=speed), Platform(folder)
    await world.start()
    await platform.start()
    owner = Owner(platform.address)
    try:
        await owner.own()
        yield world, platform, owner
    finally:
        await owner.leave()
        platform.gateway.send_signal(signal.SIGTERM)
        await asyncio.to_thread(platform.gateway.communicate, timeout=60)
        await world.kill()
    assert platform.gateway.returncode == 0


async def test_without_postgres_and_allocator_a_facility_is_brought_down_within_its_time_and_held(folder):
    async with running(folder, speed=10.0) as (world, platform, owner):
        command = owner.make((FULL, range(MINERS)), (BATCH, range(FIRST_GPU, SLOTS)))
        await owner.send(command)
        await until(lambda: len(owner.settled(command.command_id)) == 2, "all draw")
        before_kw = (await owner.state()).power_kw
        await owner.leave()  # the allocators are gone, too
        code, said = await platform.hcp("edge", "stop", "one", "--as", "ann", "--reason", "smoke in hall 2")
        stopped_s = world.clock_now().timestamp()
        assert (code, "120 devices told to go down" in said) == (0, True), said
        owner.__init__(platform.address, name="alloc-b", epoch=2)
        while (kw := (await owner.state()).power_kw) > 0.06 * before_kw:
            assert world.clock_now().timestamp() - stopped_s < 20, kw  # they take ten simulated seconds
            await asyncio.sleep(0.05)
        assert (world.commanded()[FIRST_GPU:] == IDLE).all()
        await owner.own()
        ack = await owner.send(owner.make((FULL, [0])))
        assert [r.code for r in ack.assignments[0].refused] == ["held"]
        code, said = await platform.hcp("edge", "release", "--as", "ann", "--reason", "over", "--json")
        assert code == 0
        assert {f["facility_id"]: f["problem"] for f in json.loads(said)["facilities"]} == {"one": "", "two": ""}
        assert (await owner.send(owner.make((FULL, [0])))).assignments[0].refused == []
        orders = [pb.DirectOrder.FromString(e.payload) for e in read_log(folder / "edge" / "one") if e.kind == "direct"]
        assert [(o.operator, o.reason, o.token) for o in orders] == [
            ("ann", "smoke in hall 2", ""),
            ("ann", "over", ""),
        ]
        assert TOKEN.encode() not in b"".join(p.read_bytes() for p in (folder / "edge").rglob("*.bin"))


async def test_a_curtailment_goes_the_same_way_and_what_is_wrong_with_an_order_is_told(folder):
    async with running(folder, speed=600.0) as (world, platform, owner):
        await owner.send(owner.make((FULL, range(MINERS))))
        code, said = await platform.hcp("curtail", "one", "--direct", "--to", "0.2", "--as", "ann", "--reason", "drill")
        assert (code, "MW at the meter once they have" in said) == (0, True), said
        await until(lambda: 40 < (world.commanded()[:MINERS] == FULL).sum() < 50, "0.2 MW")
        code, said = await platform.hcp("edge", "stop", "one", "--as", "eve", "--reason", "x")
        assert (code, "is a viewer" in said, "Traceback" in said) == (1, True, False), said
        assert [e.kind for e in read_log(folder / "edge" / "one")].count("direct") == 1


def test_orders_that_can_not_be_sent_say_why(folder, hcp):
    platform = Platform(folder)
    own = {"HCP_STATE_DIR": str(platform.state_dir), "HCP_OPERATOR": "ann"}
    for arguments, code, words in (
        (("edge", "stop", "three", "--reason", "x"), 2, "no gateway here has facility 'three'"),
        (("curtail", "one", "--direct", "--to", "1", "--reason", "x", "--wait"), 2, "--direct goes with"),
        (("curtail", "one", "--direct", "--reason", "x"), 2, "how far?"),
        (("edge", "stop", "--reason", "x"), 1, "2 of 2 facilities did not take the order"),
        (("edge", "stop", "--reason", "x", "--as", "bob"), 2, "no token in"),
    ):
        done = hcp(*arguments, **own)
        assert (done.code, words in done.err) == (code, True), done


def test_certificates_are_made_once_and_renewed(folder, hcp):
    state_dir = folder / "hcp"
    done = hcp("tls", "init", "--host", "edge.example", "--state-dir", state_dir)
    assert (done.code, "gateway.crt" in done.out) == (0, True), done
    made = {p.name: p.read_bytes() for p in (state_dir / "tls").iterdir()}
    assert {p.stat().st_mode & 0o777 for p in (state_dir / "tls").iterdir()} == {0o600}
    done = hcp("tls", "init", "--state-dir", state_dir)
    assert (done.code, "hcp tls renew" in done.err) == (2, True), done
    assert hcp("tls", "renew", "--state-dir", state_dir).code == 0
    renewed = {p.name: p.read_bytes() for p in (state_dir / "tls").iterdir()}
    assert {name for name in made if made[name] != renewed[name]} == set(made) - {"ca.crt", "ca.key"}
