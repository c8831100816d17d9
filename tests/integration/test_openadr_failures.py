"""A day of hourly events, a tenth of all requests going wrong in every way: none is lost, doubled or left uncancelled."""

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
from simulators.grid_calls import GridCall
from simulators.service_plan import FAILURES
from tests.support.openadr import SIMULATED_S, vtn

TROUBLE = {
    "from_h": 0,
    "until_h": 168,
    "services": ["openadr"],
    "fail_fraction": 0.1,
    "slow_ms": 20,
    "oversized_mb": 20,
}
SPEED = 7200.0  # a day is twelve seconds
HOURS = range(12, 36)
NOTICE_H = 12
CALLED_OFF = {15, 20, 25, 30}
CALLS = [
    GridCall(
        kind="alert", at_h=hour, minutes=120, level=1, notice_minutes=NOTICE_H * 60,
        cancelled_at_h=hour - 3 if hour in CALLED_OFF else None,
    )
    for hour in HOURS
]  # fmt: skip


def names(hours):
    return {f"alert-{hour - HOURS[0]}-all-{SIMULATED_S + 3600 * hour:.0f}" for hour in hours}


@pytest.mark.parametrize("protocol", ["2.0b", "3.1"])
async def test_a_day_of_events_survives_a_server_that_fails_often(protocol, settings, database, tmp_path):
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
    troubled = vtn(
        tmp_path, *CALLS, speed=SPEED, sites=("hou-1",), client_file=tmp_path / "clients",
        services={"troubles": [TROUBLE]},
    )  # fmt: skip
    async with troubled as server:
        ready = settings.at("run", "world.json")
        ready.parent.mkdir(exist_ok=True)
        ready.write_text(json.dumps({"urls": server.urls}))
        clock = SystemClock(Anchor(datetime.now(UTC), datetime.fromtimestamp(SIMULATED_S, UTC), SPEED))
        context = ProcessContext("feed", settings, clock, structlog.get_logger("test"))
        task = asyncio.create_task(grid_signals(context, path).run())
        day_is_over = SIMULATED_S + 3600.0 * (HOURS[-1] + 1)
        answers = set()
        while server.clock.now_s() < day_is_over:
            answers |= answered(server)  # a VEN that registers anew answers what still stands
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        counts = server._gate.counts()["openadr"]
    rows = kept(database)
    assert sorted(name for name, is_cancelled in rows if not is_cancelled) == sorted(names(HOURS)), "each once"
    assert sorted(name for name, is_cancelled in rows if is_cancelled) == sorted(names(CALLED_OFF)), "each once"
    if protocol == "2.0b":
        assert answers >= names(HOURS)
    failed = sum(counts.get(failure, 0) for failure in FAILURES)
    assert failed >= 2
    assert counts["over_limit"] == 0


def kept(database):
    return database.execute(
        "select payload ->> 'event_id', payload ->> 'means' = 'cancelled' from grid_signals where kind = 'event'"
    ).fetchall()


def answered(server):
    return {
        event_id for ven in server.vtn.vens for event_id, answer in ven.answers.items() if answer.opt_type == "optIn"
    }
