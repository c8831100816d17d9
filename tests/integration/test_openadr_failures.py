"""A fifth of all requests to the server go wrong in every way there is: no event is lost, none is kept twice."""

import asyncio
import json
import logging
from datetime import UTC, datetime

import pytest
import structlog
import yaml

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.feed.grid_signals import grid_signals
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.runtime.process import ProcessContext
from simulators.openadr.events import Event
from simulators.service_plan import FAILURES
from tests.support.openadr import SIMULATED_S, SPEED, until, vtn

TROUBLE = {
    "from_h": 0,
    "until_h": 168,
    "services": ["openadr"],
    "fail_fraction": 0.2,
    "slow_ms": 20,
    "oversized_mb": 20,
}
EVENTS = 6


@pytest.mark.parametrize("protocol", ["2.0b", "3.1"])
async def test_events_survive_a_server_that_fails_often(protocol, settings, database, tmp_path):
    logging.getLogger("openleadr").setLevel(logging.CRITICAL)
    apply(database, demo_facilities(1, 60)[0], "test")
    (tmp_path / "clients").write_text("hcp:secret\n")
    programme = "http://grid.example/alert" if protocol == "2.0b" else "alert"
    enrolment = {
        "version": 1, "protocol": protocol, "vtn_url": "world", "poll_s": 0.5, "report_s": 1,
        "client_secret_file": str(tmp_path / "clients"),
        "programmes": {programme: {"means": "alert", "facilities": ["hou-1"]}},
    }  # fmt: skip
    path = tmp_path / "openadr.yaml"
    path.write_text(yaml.safe_dump(enrolment))
    services = {"troubles": [TROUBLE]}
    async with vtn(tmp_path, sites=("hou-1",), client_file=tmp_path / "clients", services=services) as server:
        ready = settings.at("run", "world.json")
        ready.parent.mkdir(exist_ok=True)
        ready.write_text(json.dumps({"urls": server.urls}))
        clock = SystemClock(Anchor(datetime.now(UTC), datetime.fromtimestamp(SIMULATED_S, UTC), SPEED))
        context = ProcessContext("feed", settings, clock, structlog.get_logger("test"))
        task = asyncio.create_task(grid_signals(context, path).run())
        for number in range(EVENTS):
            server.book.publish(Event(f"ev-{number}", "alert", "", ("hou-1",), SIMULATED_S + 60 * number, 36_000, 1.0))
            await until(lambda number=number: f"ev-{number}" in kept(database), f"event {number}", 40)
        if protocol == "2.0b":
            await until(lambda: answered(server) == {f"ev-{n}" for n in range(EVENTS)}, "all answers", 40)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        counts = server._gate.counts()["openadr"]
    assert sorted(kept(database)) == sorted(f"ev-{number}" for number in range(EVENTS))
    assert database.execute("select count(*) from grid_signals where kind = 'eea'").fetchone() == (EVENTS,)
    failed = sum(counts.get(failure, 0) for failure in FAILURES)
    assert failed >= 0.05 * counts["requests"]
    assert counts["over_limit"] == 0


def kept(database):
    rows = database.execute("select payload ->> 'event_id' from grid_signals where kind = 'event'").fetchall()
    return [event_id for (event_id,) in rows]


def answered(server):
    return {
        event_id for ven in server.vtn.vens for event_id, answer in ven.answers.items() if answer.opt_type == "optIn"
    }
