"""The feed daemon in a real world: started by the file of accounts alone, it logs in, records, and names what it does not ask."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
import structlog
from structlog.testing import capture_logs

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.feed.service import run_feed
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.runtime.spans import name_platform, platform_name
from hcp_pipelines.settings import Settings
from tests.contract.test_markets_real import HOST, LOGIN, accounts
from tests.support.served import served_world
from tests.support.waiting import until

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def context_of(settings, path):
    clock = SystemClock(Anchor(datetime.now(UTC), NOON, 1.0))
    real = settings.model_copy(update={"world": "real", "markets_file": path})
    return ProcessContext("feed", real, clock, structlog.get_logger("test"))


async def test_the_feed_lives_by_the_accounts_of_the_file(settings, database, tmp_path):
    apply(database, demo_facilities(1, 60)[0], "test")
    elsewhere, path = Settings(state_dir=tmp_path / "world"), tmp_path / "markets.yaml"
    with served_world(elsewhere, NOON, markets={"ercot_login": LOGIN}), capture_logs() as logs:
        url = json.loads(elsewhere.at("run", "world.json").read_text())["urls"]["http"]
        accounts(tmp_path, "ercot")
        path.write_text(path.read_text().replace(HOST, url))
        context = context_of(settings, path)
        name_platform("")
        feed = asyncio.create_task(run_feed(context))

        def streams():
            return {row[0] for row in database.execute("select distinct stream from price_data")}

        wanted = {"power.rt_lmp", "power.rt_spp", "power.da_spp", "btc.usd", "btc.network"}
        await until(lambda: streams() >= wanted or feed.done(), "prices of every kind")
        context.stop.set()
        await asyncio.wait_for(feed, 120)
    assert streams() == wanted
    assert platform_name(), "whose ticks these are"
    assert context.health == dict.fromkeys(context.health, "")
    (told,) = (each["missing"] for each in logs if each["event"] == "services_not_asked")
    assert [text.split()[0] for text in told] == ["primeintellect", "aws", "azure"]


async def test_without_the_file_it_does_not_start(settings):
    with pytest.raises(ConfigError, match="HCP_MARKETS_FILE is unset") as error:
        await run_feed(context_of(settings, None))
    assert error.value.exit_code == 2
