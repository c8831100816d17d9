"""The generator against the platform's own API: sound work is queued once, malformed refused, whatever limits say in between."""

import asyncio
import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import yaml

from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions
from simulators.workloads.submit import Keys, Tally, Target, send
from tests.support.api import running_api, with_fleet

START_S = 1_748_736_000.0
ROOT = Path(__file__).parents[2]
MANY_REQUESTS = "update request_limits set per_minute = 100000, burst = 1000"
FEW_REQUESTS = "update request_limits set per_minute = 1200, burst = 4"


@pytest.fixture
def api(settings):
    with_fleet(settings)
    with running_api(settings, FEW_REQUESTS) as running:
        yield running


def only_h100(path):
    """The assumptions with H100s alone, no deadlines and true words, as a file; where it is."""
    told = yaml.safe_load(assumed.PATH.read_text())
    told["gpus"] = {"H100": {**told["gpus"]["H100"], "liked": 1.0}}
    told["habits"]["states_wrong_type"] = 0.0  # such work may rightly be refused
    for family in told["families"].values():
        if "deadline" in family:
            family["deadline"]["chance"] = 0.0
    path.write_text(yaml.safe_dump(told))
    return path


def stream(count):
    """Work for a fleet of H100s; without deadlines, which lie in the stream's own time and not in the API's."""
    own = assumed.load()
    h100 = own.model_copy(update={"gpus": {"H100": own.gpus["H100"].model_copy(update={"liked": 1.0})}})
    mix = {"chat": 0.4, "jobs": 0.3, "images": 0.3}
    plan = Plan(5, 5.0, START_S, START_S + 1e6, mix=mix, is_flat=True, malformed=0.15, impossible=0.1)
    found = islice(submissions(plan, h100, fitted.load()), count)
    return [each for each in found if not (isinstance(each.spec, dict) and "deadline_at" in each.spec)]


async def test_the_api_takes_each_sound_submission_once_and_refuses_malformed_ones(api):
    work = stream(90)
    by_kind = {}
    for each in work:
        by_kind.setdefault(str(each.label["defect"]).partition(":")[0], set()).add(each.idempotency_key)
    assert {name: len(keys) > 3 for name, keys in by_kind.items()} == {
        "None": True,
        "malformed": True,
        "impossible": True,
    }
    target = Target(api.base_url, Keys(api.people["customer"].key), concurrency=8, patience_s=15.0)
    tally, again = Tally(), Tally()
    await send(work, target, tally)
    await send(work, target, again)
    for each in (tally, again):
        assert each.counts["malformed_but_accepted"] == each.counts["sound_but_refused"] == 0
    assert tally.by_status["429"] > 0  # more at once than the limit lets through: it came again
    with connect(api.settings, Role.ADMIN) as connection:
        rows = connection.execute("select idempotency_key from workloads").fetchall()
    keys = [key for (key,) in rows]
    assert len(keys) == len(set(keys))
    assert by_kind["None"] <= set(keys) <= by_kind["None"] | by_kind["impossible"]


async def test_a_spike_is_sent_at_its_own_pace_by_the_command_and_nothing_is_lost_or_doubled(settings, tmp_path):
    with_fleet(settings)
    (tmp_path / "keys").touch(mode=0o600)
    with running_api(settings, MANY_REQUESTS) as api:
        (tmp_path / "keys").write_text(api.people["customer"].key)
        words = [
            "--seed", "11", "--from", "2025-06-01T00:00Z", "--to", "2025-06-01T00:00:06Z", "--rate", "20", "--flat",
            "--shape", "spike:at=2,for=1,times=4", "--mix", "chat=0.6,jobs=0.4", "--malformed", "0.1", "--impossible", "0",
            "--assumed", str(only_h100(tmp_path / "assumed.yaml")), "--submit", api.base_url,
            "--key-file", str(tmp_path / "keys"), "--speed", "1", "--concurrency", "16", "--patience-s", "20",
        ]  # fmt: skip
        begun_s = time.monotonic()
        command = [sys.executable, "-m", "simulators.workloads", *words]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
        )
        took_s = time.monotonic() - begun_s
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    sent = told["accepted"] + told["refused"]
    assert 120 < sent < 260
    assert (told["given_up"], told["malformed_but_accepted"], told["sound_but_refused"]) == (0, 0, 0), json.dumps(told)
    assert told["refused"] > 3
    assert 0 < told["latency_p50_ms"] <= told["latency_p99_ms"]
    assert took_s > 5.0, "each at its own instant"
    with connect(settings, Role.ADMIN) as connection:
        keys = [key for (key,) in connection.execute("select idempotency_key from workloads").fetchall()]
    assert len(keys) == len(set(keys)) == told["accepted"]
