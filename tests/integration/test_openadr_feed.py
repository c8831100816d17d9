"""The feed daemon itself, enrolled: it registers beside its markets, answers, and lets go when it is stopped."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest
import structlog
import yaml

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.feed.service import run_feed
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.runtime.process import ProcessContext
from tests.support.served import served_world
from tests.support.stock_vtn import stock_server
from tests.support.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")  # openleadr's server
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def context_of(settings, path):
    clock = SystemClock(Anchor(datetime.now(UTC), NOON, 1.0))
    enrolled = settings.model_copy(update={"openadr_file": path})
    return ProcessContext("feed", enrolled, clock, structlog.get_logger("test"))


async def test_an_enrolled_feed_answers_events_beside_its_markets(settings, database, tmp_path):
    logging.getLogger("openleadr").setLevel(logging.CRITICAL)
    apply(database, demo_facilities(1, 60)[0], "test")
    path = tmp_path / "openadr.yaml"
    async with stock_server() as stock:
        programmes = {"http://utility.example/dr": {"means": "alert", "facilities": ["hou-1"]}}
        path.write_text(yaml.safe_dump({"version": 1, "vtn_url": stock.url, "poll_s": 0.5, "programmes": programmes}))
        stock.ask(signal=("SIMPLE", "level"), watts=2, begins_in_s=1, resources=("hou-1",))
        with served_world(settings, NOON):
            context = context_of(settings, path)
            feed = asyncio.create_task(run_feed(context))
            await until(lambda: stock.opts or feed.done(), "an answer")
            assert stock.opts == {"ev-1": "optIn"}
            await until(lambda: database.execute("select 1 from price_data").fetchone(), "prices beside it")
            context.stop.set()
            await asyncio.wait_for(feed, 120)
    assert context.health["openadr"] == ""
    assert database.execute("select level from grid_signals where kind = 'eea'").fetchall() == [("2",)]


async def test_a_wrong_enrolment_is_a_wrong_setting(settings, tmp_path):
    path = tmp_path / "openadr.yaml"
    path.write_text("version: 2")
    with pytest.raises(ConfigError, match=str(path)) as error:
        await run_feed(context_of(settings, path))
    assert error.value.exit_code == 2
