"""An event of a stock server, from its publication to the meter and back: feed, Postgres, a real allocator, a gateway, miners."""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import openleadr.client
import pytest
import structlog
import yaml
from structlog.testing import capture_logs

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.feed.grid_signals import grid_signals
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support import operated_site
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.operated_site import FACILITY, MINERS, OperatedSite
from tests.support.stock_vtn import free_port, stock_server

__all__ = ["hcp"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning"),  # openleadr's server
    pytest.mark.usefixtures("own_time"),
]

SPEED = 30.0  # a meter that is silent for two simulated minutes fails an event: four real seconds of a busy machine


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    yield path
    shutil.rmtree(path)


class _Stamps(datetime):
    """As the platform's clock: what openleadr writes into reports is from the time that passes here."""

    @classmethod
    def now(cls, tz=None):
        return SystemClock().real_now().astimezone(tz)


@pytest.fixture
async def site(hcp, folder, settings, database, monkeypatch):
    logging.getLogger("openleadr").setLevel(logging.CRITICAL)
    monkeypatch.setattr(operated_site, "SPEED", SPEED)
    monkeypatch.setattr(openleadr.client, "datetime", _Stamps)
    with capture_logs():
        async with OperatedSite(hcp, folder, settings, database) as opened:
            await opened.start_allocator()
            opened.publish_policy()
            mining = set(range(MINERS))
            await until(lambda: opened.mining() == mining, "a low price wakes them")
            yield opened


@contextlib.asynccontextmanager
async def listening(site, folder, url):
    """The feed's listener, enrolled with a server for the site."""
    programme = {"means": "response", "facilities": [FACILITY], "notice_s": 480, "penalty_usd_per_mwh": 1000}
    enrolment = {
        "version": 1, "vtn_url": url, "poll_s": 0.5, "report_s": 1, "resources": {"METER-1": FACILITY},
        "programmes": {"http://utility.example/dr": programme},
    }  # fmt: skip
    path = folder / "openadr.yaml"
    path.write_text(yaml.safe_dump(enrolment))
    context = ProcessContext("feed", site.settings, site.clock, structlog.get_logger("test"))
    task = asyncio.create_task(grid_signals(context, path).run())
    try:
        yield context
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def obligations(site):
    with connect(site.settings, Role.OPERATOR) as connection:
        return connection.execute(
            "select status, reason, delivered_fraction, mw, upper(during) from grid_obligations order by id"
        ).fetchall()


def answered(database):
    rows = database.execute("select payload ->> 'opt', payload ->> 'reason' from grid_signals where kind = 'event'")
    return rows.fetchall()


async def test_an_event_of_a_stock_server_is_met_at_the_meter_and_reported_back(site, folder, database):
    mw = 0.6 * site.meter_mw() * MINERS / (MINERS + 8)
    async with stock_server() as stock, listening(site, folder, stock.url):
        await until(lambda: stock.watts, "the meter is reported")
        assert (stock.resource, stock.unit) == ("METER-1", "W")
        begins = stock.ask(watts=-mw * 1e6, begins_in_s=19, lasts_s=8, resources=("METER-1",))
        await until(lambda: stock.opts, "the server hears an answer")
        assert answered(database) == [("optIn", "")]
        assert stock.opts == {"ev-1": "optIn"}
        assert obligations(site)[0][3] == pytest.approx(mw)
        ends = begins + timedelta(seconds=8)
        await until(lambda: obligations(site)[0][0] in ("settled", "failed"), "the obligation is over")
        await until(lambda: stock.watts[-1][0] > ends, "reports go on")
    ((status, reason, delivered, *_),) = obligations(site)
    assert (status, reason, delivered >= 0.95) == ("settled", "met", True)
    before = [watts for at, watts in stock.watts if at < begins - timedelta(seconds=16.5)]
    within = [watts for at, watts in stock.watts if begins + timedelta(seconds=1) <= at < ends]
    assert before
    assert within
    assert before[-1] - max(within) >= 0.95 * mw * 1e6  # the first ones may be from while miners still woke
    rows = database.execute(
        "select distinct reason from switch_journal where event = 'commanded' and reason_detail like '%%obligation/%%'"
    ).fetchall()
    assert rows == [("demand_response",)]


async def test_a_server_that_goes_away_is_heard_again_and_what_cant_be_met_is_answered_out(site, folder, database):
    port = free_port()
    async with listening(site, folder, f"http://127.0.0.1:{port}/OpenADR2/Simple/2.0b"):
        async with stock_server(port) as stock:
            await until(lambda: stock.registered, "registered")
        async with stock_server(port) as stock:
            stock.ask(watts=-10 * site.meter_mw() * 1e6, resources=("METER-1",))
            await until(lambda: stock.opts, "the server hears an answer")
            assert stock.opts == {"ev-1": "optOut"}
    ((opt, reason),) = answered(database)
    assert (opt, "settle within the notice" in reason) == ("optOut", True), reason
    assert obligations(site) == []
