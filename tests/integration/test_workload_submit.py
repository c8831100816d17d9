"""Submissions to a small API over real sockets: retries under one key, bounded concurrency, pace, and what is told of it."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections import Counter
from itertools import islice

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.embedded_http import EmbeddedServer
from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions
from simulators.workloads.submit import PATH, Keys, SubmitError, Tally, Target, retry_after_s, send

START_S = 1_748_736_000.0
WORDS = ("--from", "2025-06-01T00:00Z", "--to", "2025-06-02T00:00Z", "--rate", "5", "--flat")


class Api:
    """Takes what is sound, once a key; the first `failures` answers to each key are `status`."""

    def __init__(self, failures=0, status=503, headers=None, holds_s=0.0):
        self.failures, self.status, self.headers, self.holds_s = failures, status, headers or {}, holds_s
        self.tried, self.taken, self.who = Counter(), {}, {}
        self.now, self.most, self.at = 0, 0, []

    async def submit(self, request):
        self.now += 1
        self.most = max(self.most, self.now)
        self.at.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(self.holds_s)
            return self.answered(request.headers, await request.json())
        finally:
            self.now -= 1

    def answered(self, headers, body):
        key = headers["idempotency-key"]
        self.tried[key] += 1
        if self.tried[key] <= self.failures:
            return Response(status_code=self.status, headers=self.headers)
        if not isinstance(body, dict) or not isinstance(body.get("gpu_count", 1), int):
            return JSONResponse({"title": "malformed"}, 422)
        assert self.taken.setdefault(key, body) == body
        self.who[key] = headers["authorization"]
        return JSONResponse({"workload_id": key, "status": "queued", "priority": 5, "queue_position": 1}, 202)


@contextlib.asynccontextmanager
async def served(api):
    app = Starlette(routes=[Route(PATH, api.submit, methods=["POST"])])
    server = EmbeddedServer(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    await server.is_up.wait()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def stream(count, rate=5.0, **changes):
    plan = Plan(7, rate, START_S, START_S + 1e6, is_flat=True, **changes)
    return list(islice(submissions(plan, assumed.load(), fitted.load()), count))


async def sent(api, work, **how):
    tally = Tally()
    async with served(api) as url:
        await send(work, Target(url, Keys("k"), **how), tally)
    return tally


async def test_everything_arrives_once_as_it_was_made():
    api, work = Api(), stream(100, malformed=0.0)
    tally = await sent(api, work)
    assert tally.report() | {"by_status": {"202": 100}, "accepted": 100, "refused": 0, "given_up": 0} == tally.report()
    assert api.taken == {each.idempotency_key: each.spec for each in work}
    assert 0 < tally.latency_ms(0.5) <= tally.latency_ms(0.99)


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_what_is_turned_away_comes_again_under_the_same_key(status):
    api, work = Api(failures=2, status=status), stream(15, malformed=0.0)
    tally = await sent(api, work)
    assert set(api.tried.values()) == {3}
    assert len(api.taken) == 15
    assert (tally.counts["accepted"], tally.counts["retried"], tally.counts["given_up"]) == (15, 30, 0)


async def test_a_wait_that_is_asked_for_is_kept():
    api = Api(failures=1, status=429, headers={"Retry-After": "1"})
    await sent(api, stream(1, malformed=0.0))
    assert api.at[1] - api.at[0] >= 1.0


async def test_what_is_never_taken_is_given_up_and_said():
    tally = await sent(Api(failures=99), stream(3, malformed=0.0), attempts=2)
    assert (tally.counts["given_up"], tally.by_status["503"]) == (3, 6)


async def test_a_wait_beyond_all_patience_is_not_begun():
    tally = await sent(Api(failures=9, headers={"Retry-After": "3600"}), stream(1, malformed=0.0))
    assert (tally.counts["given_up"], tally.counts["retried"]) == (1, 0)


async def test_refusals_are_not_repeated_and_told_apart_by_labels():
    api, work = Api(), stream(80, malformed=0.3, impossible=0.0)
    tally = await sent(api, work)
    assert set(api.tried.values()) == {1}
    assert tally.counts["sound_but_refused"] == 0
    assert tally.counts["refused"] > 5
    malformed = sum(each.label["defect"] is not None for each in work)
    assert tally.counts["refused"] + tally.counts["malformed_but_accepted"] == malformed  # this API looks at little


async def test_no_more_are_under_way_than_allowed():
    api = Api(holds_s=0.01)
    await sent(api, stream(60, malformed=0.0), concurrency=7)
    assert api.most == 7


async def test_the_pace_is_that_of_the_stream():
    api, work = Api(), stream(30, rate=2.0, malformed=0.0)
    await sent(api, work, speed=20.0)
    wanted = (work[-1].at_s - work[0].at_s) / 20.0
    assert wanted > 0.5
    assert api.at[-1] - api.at[0] > wanted - 0.2  # later only where the machine is slow


async def test_a_slow_api_cannot_hide_what_waited_for_it():
    """One place, 20 ms each, and all intended within a few ms: the last waited for all the others."""
    tally = await sent(Api(holds_s=0.02), stream(25, rate=500.0, malformed=0.0), speed=10.0, concurrency=1)
    assert tally.latency_ms(0.95) > 300
    assert tally.latency_ms(0.05) < tally.latency_ms(0.95) / 2


async def test_a_service_that_is_not_there_is_tried_and_given_up():
    async with served(Api()) as url:
        pass
    tally = Tally()
    await send(stream(2), Target(url, Keys("k"), attempts=2), tally)
    assert tally.counts["given_up"] == 2
    assert tally.by_status["ConnectError"] == 4


async def test_each_customer_speaks_with_its_own_key(tmp_path):
    path = tmp_path / "keys"
    path.write_text("c000000 first\n* rest\n")
    api, tally, work = Api(), Tally(), stream(60, malformed=0.0, customers=5)
    async with served(api) as url:
        await send(work, Target(url, Keys.read(path)), tally)
    assert {each.customer_id for each in work} > {"c000000"}
    expected = {each.idempotency_key: "first" if each.customer_id == "c000000" else "rest" for each in work}
    assert api.who == {key: f"Bearer {secret}" for key, secret in expected.items()}


def test_keys_that_can_not_be_used_are_refused(tmp_path):
    path = tmp_path / "keys"
    path.write_text("c000000 first\nsecond\n")
    with pytest.raises(SubmitError, match="line 2"):
        Keys.read(path)
    path.write_text("")
    with pytest.raises(SubmitError, match="line 1"):
        Keys.read(path)
    with pytest.raises(SubmitError, match="No such file"):
        Keys.read(tmp_path / "none")
    with pytest.raises(SubmitError, match="no key of c7"):
        Keys(None, {"c1": "k"}).of("c7")
    assert "hidden" not in repr(Keys(None, {"c1": "hidden"}))


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80", "http://api.example.org"])
def test_addresses_that_would_not_do_are_refused(url):
    with pytest.raises(SubmitError):
        Target(url, Keys("k"))


def test_a_wait_may_be_an_instant_by_the_replys_own_clock():
    date = "Wed, 01 Jan 2025 00:00:00 GMT"
    assert retry_after_s({"retry-after": "Wed, 01 Jan 2025 00:00:30 GMT", "date": date}) == 30.0
    assert retry_after_s({"retry-after": "Tue, 31 Dec 2024 00:00:30 GMT", "date": date}) == 0.0
    assert retry_after_s({"retry-after": "7"}) == 7.0
    assert retry_after_s({"retry-after": "soon", "date": date}) is None
    assert retry_after_s({}) is None


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "simulators.workloads", *words], capture_output=True, text=True, timeout=60
    )


def test_the_command_writes_lines_that_are_the_stream(tmp_path):
    done = run(*WORDS, "--count", "50")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 50
    assert set(lines[0]) == {"submitted_at", "idempotency_key", "customer_id", "spec", "label"}
    run(*WORDS, "--count", "50", "--out", str(tmp_path / "x"))
    assert (tmp_path / "x").read_text() == done.stdout


def test_the_command_sends_and_reports(tmp_path):
    (tmp_path / "keys").write_text("k\n")
    api, loop, ready, over = Api(), asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    urls = []

    async def serve():
        async with served(api) as url:
            urls.append(url)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        words = (*WORDS, "--count", "20", "--malformed", "0", "--submit", urls[0], "--key-file", str(tmp_path / "keys"))
        done = run(*words)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["accepted"] == 20
    assert len(api.taken) == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mix", "poker=1"), "no such families"),
        (("--mix", "chat"), "FAMILY=SHARE"),
        (("--shape", "wave"), "no shape"),
        (("--to", "2025-05-01T00:00Z"), "is not after"),
        (("--to", "2025-06-02T00:00"), "needs an offset"),
        (("--rate", "0"), "not within"),
        (("--count", "1.5"), "no whole number"),
        (("--submit", "http://127.0.0.1:1"), "--key-file"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(words, message, capsys):
    from simulators.workloads.__main__ import main

    try:
        code = main([*WORDS, *words])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert message in capsys.readouterr().err
