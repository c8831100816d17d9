"""A grid event and a relay trip, from what is typed to the meter: command, Postgres, a real allocator, a real gateway, miners."""

import json
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support import operated_site
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.operated_site import FACILITY, MINERS, OperatedSite

pytestmark = pytest.mark.usefixtures("own_time")

__all__ = ["hcp"]

ALL = set(range(MINERS))


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def site(hcp, folder, settings, database, monkeypatch):
    monkeypatch.setattr(operated_site, "SPEED", 50.0)  # a meter that is read twice a real second is never silent then
    with capture_logs():
        async with OperatedSite(hcp, folder, settings, database) as opened:
            await opened.start_allocator()
            opened.publish_policy()
            await until(
                lambda: opened.mining() == ALL and not opened.facility.state().unfinished_command_ids,
                "a low price wakes them",
                60,
            )
            await until(opened.is_read, "the gateway has read what they draw")
            yield opened


async def awarded(site, mw, notice_s=150):
    now = site.clock.now()
    done = await site.order(
        "grid", "award", FACILITY, "--programme", "RRS", "--mw", f"{mw:.4f}", "--from", now.isoformat(),
        "--to", (now + timedelta(days=2)).isoformat(), "--notice", str(notice_s), "--duration", "7200",
        "--recovery", "60", "--json",
    )  # fmt: skip
    number = json.loads(done.out)["obligation_id"]
    await until(lambda: status(site, number)[0] == "armed", "it is armed")
    return number


def status(site, number):
    with connect(site.settings, Role.OPERATOR) as connection:
        return connection.execute(
            "select status, reason, delivered_fraction, baseline_mw from grid_obligations where id = %s", (number,)
        ).fetchone()


async def test_a_deployment_is_journalled_as_the_grids_met_at_the_meter_and_recalled_under_the_ramps(site, database):
    full_mw = site.meter_mw()
    number = await awarded(site, 0.6 * full_mw * MINERS / (MINERS + 8))
    await site.order("grid", "deploy", str(number), "--reason", "EEA 2")
    await until(lambda: (status(site, number)[2] or 0) >= 0.95, "met at the meter")
    rows = database.execute(
        "select distinct reason, actor from switch_journal where event = 'commanded' and reason_detail like %s",
        (f"%obligation/{number}%",),
    ).fetchall()
    assert rows == [("grid_deployment", "grid")]
    assert site.facility.state().is_metered
    await site.order("grid", "recall", str(number))
    await until(lambda: status(site, number)[0] not in ("deployed", "recovering"), "recovered")
    assert status(site, number)[:2] == ("armed", "met")
    await until(lambda: site.mining() == ALL, "what mined before mines again")


async def test_a_relay_trip_is_told_by_the_gateway_delivers_and_ends_when_power_returns(site, database):
    number = await awarded(site, 0.1)
    dead = np.zeros(site.site.devices, dtype=bool)
    dead[:MINERS] = True
    site.site.set_without_power(dead)
    await until(lambda: site.owner.devices.dark.sum() == MINERS, "the owner knows")
    await until(lambda: status(site, number)[:2] == ("deployed", "shed_by_relay"), "it counts as deployed")
    await until(lambda: (status(site, number)[2] or 0) >= 0.95, "and as delivered")
    assert site.owner.devices.quarantined == {}
    site.site.set_without_power(np.zeros_like(dead))
    await until(lambda: status(site, number)[0] not in ("deployed", "recovering"), "recalled by the power")
    assert status(site, number)[:2] == ("armed", "met")
    await until(lambda: site.mining() == ALL, "what mined before mines again")
    seen = database.execute("select distinct reason, actor from switch_journal where event = 'observed'").fetchall()
    assert ("shed_by_relay", "gateway") in seen
    assert database.execute(
        "select coalesce(sum(failed), 0) from switch_journal where event = 'settled'"
    ).fetchone() == (0,)
    audited = {a for (a,) in database.execute("select action from audit_log where actor = 'gateway'").fetchall()}
    assert {"gateway.shed", "gateway.power_returned"} <= audited


async def test_what_is_not_kept_becomes_an_alert(site, database):
    """Sold past the command, which would have refused it."""
    now = site.clock.now()
    number = database.execute(
        """insert into grid_obligations (facility_id, programme, status, mw, during, baseline_rule, notice_s, duration_s,
               recovery_s) values (%s, 'RRS', 'awarded', 5, tstzrange(%s, %s), 'meter', 60, 3600, 0) returning id""",
        (FACILITY, now, now + timedelta(days=2)),
    ).fetchone()[0]
    await until(lambda: alerts(database) == {"obligation_short"}, "armed without the load")
    await site.order("grid", "deploy", str(number))
    await until(lambda: status(site, number)[2] is not None, "the meter has spoken after the deadline")
    await site.order("grid", "recall", str(number))
    await until(lambda: alerts(database) == {"obligation_short", "obligation_failed"}, "the failure is told")
    assert (status(site, number)[0], "delivered" in status(site, number)[1]) == ("failed", True)


def alerts(database):
    rows = database.execute(
        "select action from audit_log where starts_with(action, 'alert.') and subject = %s", (FACILITY,)
    )
    return {action.removeprefix("alert.") for (action,) in rows.fetchall()}
