"""What operators type, down to the devices: command, Postgres, a real allocator, a real gateway, simulated miners and GPUs."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.cli import hcp
from tests.support.edge import bits, until
from tests.support.operated_site import FACILITY, MINERS, OperatedSite

pytestmark = pytest.mark.usefixtures("own_time")

__all__ = ["hcp"]

ALL = set(range(MINERS))


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="o", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def site(hcp, folder, settings, database):
    with capture_logs():  # or they would stand between the command's lines
        async with OperatedSite(hcp, folder, settings, database) as opened:
            await opened.start_allocator()
            opened.publish_policy()
            await until(
                lambda: opened.mining() == ALL and not opened.facility.state().unfinished_command_ids,
                "a low price wakes them",
                60,
            )
            await until(opened.is_read, "the gateway has read what they draw: orders go by that")
            yield opened


def switches(database, actor):
    rows = database.execute(
        "select distinct reason, reason_detail from switch_journal where event = 'commanded' and actor = %s", (actor,)
    )
    return rows.fetchall()


async def planned_with(site, database, price):
    """A new price, and the owner has looked at it with all that stands."""
    site.price(price)
    newest = database.execute("select max(id) from price_data").fetchone()[0]
    await until(lambda: site.owner.pace.tick_id == newest, "the owner has planned with it")


async def test_a_curtailment_holds_at_the_meter_survives_its_allocator_and_ends_where_the_policy_is(site, database):
    before = site.meter_mw()
    done = await site.order("curtail", FACILITY, "--mw", f"{before / 2:.4f}", "--reason", "hot", "--wait", "--json")
    told = json.loads(done.out)
    ((name, reached),) = told["done"].items()
    assert reached["meter_mw"] <= before / 2 * 1.03
    assert reached["commanded"] == reached["acked"] == reached["settled"] > 0, (
        "done is settled, by the gateway's judgement"
    )
    assert switches(database, "ann") == [("operator_curtailment", f"{name}: hot")]

    await site.stop_allocator()
    await site.start_allocator("allocator-b")
    await until(lambda: site.owner.in_force is not None, "the successor has a policy")
    await planned_with(site, database, -50.0)
    assert site.meter_mw() <= before / 2 * 1.03

    await site.order("release", name, by="bob")
    await until(lambda: site.mining() == ALL, "the load is back where the policy wants it")


async def test_the_policy_in_force_is_handed_to_the_gateway_and_kept_there(site, database):
    in_force = site.owner.in_force.policy_id
    await until(lambda: site.facility.state().policy_id == in_force, "the gateway has judged it")
    site.publish_policy()
    await until(lambda: site.owner.in_force.policy_id != in_force, "a newer one is taken")
    newer = site.owner.in_force.policy_id
    await until(lambda: site.facility.state().policy_id == newer, "and handed over")


async def test_a_facility_explains_itself_at_its_price_and_at_another(site, tmp_path):
    now = json.loads((await site.order("explain", FACILITY, "--json")).out)
    assert now["policy_id"] == site.owner.in_force.policy_id
    assert sum(block["on_now"] for block in now["explanation"]["blocks"]) > 0
    page = tmp_path / "why.html"
    dear = await site.order("explain", FACILITY, "--price", "5000", "--html", str(page))
    assert "off: the price is above its off-strike" in dear.out
    assert "Merit order" in page.read_text()


async def test_maintenance_finds_devices_asleep_is_held_by_the_gateway_and_gives_them_back_by_itself(site, database):
    typed = ("maintenance", "plan", FACILITY, "--device", "0-9", "--for", "1h", "--reason", "a pump", "--json")
    planned = json.loads((await site.order(*typed, "--wait")).out)
    assert (planned["name"], planned["done"]["maintenance/1"]["settled"]) == ("maintenance/1", 10)
    slots = set(range(10))
    assert set(bits(site.facility.state().locked)) == slots, "it has begun, and the gateway holds them"
    assert slots <= site.asleep()
    assert switches(database, "ann") == [("lockout", "lockout/1: maintenance/1: a pump")]
    (window,) = json.loads((await site.order("maintenance", "list", "--json")).out)["windows"]
    assert (window["state"], window["of"], window["ended_by"]) == ("under way", "10 devices", None)
    await planned_with(site, database, -50.0)
    assert site.asleep() == slots
    await until(lambda: site.mining() == ALL, "they are given back", 60)
    steps = "select action, actor from audit_log where subject = 'maintenance/1' order by id"
    assert database.execute(steps).fetchall() == [
        ("maintenance.planned", "ann"), *((f"maintenance.{step}", "maintenance/1") for step in ("emptying", "begun", "over"))
    ]  # fmt: skip
    assert bits(site.facility.state().locked) == []

    await site.stop_allocator()
    begins_at = json.loads((await site.order(*typed)).out)["begins_at"]
    database.execute("select advance_maintenance(array[%s], %s)", (FACILITY, begins_at))
    (window,) = json.loads((await site.order("maintenance", "list", "--json")).out)["windows"]
    assert window["state"] == "not confirmed by its gateway", "it is asked, and holds nothing: the books alone say so"


async def test_no_price_and_no_successor_energises_a_locked_device(site, database):
    locked = set(range(5, 12))
    done = await site.order("lock", FACILITY, "--device", "5-11", "--reason", "hands inside", "--wait")
    assert "done" in done.out
    assert site.asleep() == locked
    assert switches(database, "ann") == [("lockout", "lockout/1: hands inside")]
    assert set(bits(site.facility.state().locked)) == locked, "the gateway holds them too"
    site.price(-50.0)
    await site.stop_allocator()
    await site.start_allocator("allocator-b")
    site.price(-60.0)
    await until(lambda: site.owner.in_force is not None, "the successor has a policy")
    await site.order("override", FACILITY, "--group", "s21", "--state", "mining_full", "--for", "1h", "--reason", "x")
    await until(lambda: site.owner.standing.at(site.clock.now()), "the override stands")
    await planned_with(site, database, -70.0)
    assert site.asleep() == locked
    await site.order("unlock", "1", by="bob", code=1)
    await site.order("unlock", "1", by="root")
    await until(lambda: site.mining() == ALL, "unlocked, they mine")


async def test_an_override_waits_for_its_approval_and_ends_with_its_time(site, database):
    typed = (
        "override",
        FACILITY,
        "--group",
        "s21",
        "--state",
        "curtailed",
        "--reason",
        "test",
        "--for",
        "20m",
        "--json",
    )
    database.execute("update approval_limit set mw = 0.05")
    asked = json.loads((await site.order(*typed)).out)["orders"][0]
    await planned_with(site, database, -50.0)
    assert switches(database, "ann") == []
    assert site.mining() == ALL
    await site.order("approve", str(asked["approval_id"]), "--reason", "agreed", by="bob")
    await until(lambda: site.asleep() == ALL, "approved, it is carried out")
    assert switches(database, "ann") == [("operator_override", f"{asked['name']}: test")]
    await until(lambda: site.mining() == ALL, "it is over: 20 minutes are 4 s here")


async def test_a_preview_says_what_then_happens_and_does_nothing(site, database):
    async def ask(*what):
        (one,) = json.loads((await site.order("preview", *what, "--json")).out)["previews"]
        return one

    commanded = "select count(*) from switch_journal where event = 'commanded'"
    before, rows = site.meter_mw(), database.execute(commanded).fetchone()
    curtailed = await ask("curtail", FACILITY, "--to", f"{before / 2:.4f}")
    assert before / 4 < curtailed["mw_then"] <= before / 2
    assert curtailed["usd_per_hour_then"] < curtailed["usd_per_hour_now"]
    locked = await ask("lock", FACILITY, "--device", "5-11")
    assert (locked["devices"], locked["reasons"]) == (7, ["lockout"])
    idle = await ask("override", FACILITY, "--group", "s21", "--state", "curtailed", "--devices", "20")
    assert idle["devices"] == 20
    assert (await ask("stop-all"))["mw_then"] < curtailed["mw_then"]
    number = database.execute("select max(id) from policies").fetchone()[0]
    assert (await ask("policy", str(number)))["devices"] == 0, "what is in force changes nothing"
    await site.order("preview", "policy", "99", code=2)
    text = (await site.order("preview", "curtail", FACILITY, "--to", "0")).out
    assert [word in text for word in ("at the meter", "$/h", "within", "can't go")] == [True] * 4
    assert database.execute(commanded).fetchone() == rows

    done = await site.order("curtail", FACILITY, "--to", f"{before / 2:.4f}", "--reason", "x", "--wait", "--json")
    (reached,) = json.loads(done.out)["done"].values()
    assert reached["commanded"] == curtailed["devices"]
    assert reached["meter_mw"] == pytest.approx(curtailed["mw_then"], rel=0.02)


async def test_stop_all_brings_everything_down_and_drain_what_the_fallback_plan_says(site, database):
    await site.order("stop-all", "--reason", "drill", "--wait")
    assert site.asleep() == ALL
    lowest = [g.power_kw_by_state()[g.lowest] * 1000 for g in site.inventory.groups]
    assert site.power_w()[MINERS:].max() < lowest[1] * 1.1
    assert switches(database, "ann") == [("emergency_stop", "stop_all/1: drill")]
    await site.order("release", "--all")
    await until(lambda: site.mining() == ALL, "released")
    drained = json.loads((await site.order("drain", "--reason", "maintenance", "--wait", "--json")).out)
    assert len(drained["done"]) == len(site.inventory.groups)
    assert site.asleep() == ALL, "the fallback plan puts miners to sleep"


async def names_of_what_stands(site):
    done = await site.order("directives", "--json")
    return [d["name"] for d in json.loads(done.out)["directives"]]


async def test_direct_orders_are_listed_and_released_like_all_others_and_then_the_load_comes_back(site, database):
    name = f"direct/{FACILITY}"
    await site.order("edge", "stop", FACILITY, "--reason", "smoke")
    await until(lambda: site.asleep() == ALL, "all are down")
    await until(site.owner.held.any, "the owner has heard of it")
    await site.allocator._writer.drained()
    assert await names_of_what_stands(site) == [name]
    await planned_with(site, database, -60.0)
    assert site.asleep() == ALL, "nothing rises that is held"
    await site.order("release", name, "--reason", "it was a toaster", by="bob")
    await until(lambda: site.mining() == ALL, "released, the policy wakes them")
    await site.allocator._writer.drained()
    assert await names_of_what_stands(site) == []
    last = "select actor, detail ->> 'reason' from audit_log where action = 'gateway.released'"
    assert database.execute(last).fetchall() == [("bob", "it was a toaster")]
    assert "does not stand (any more)" in (await site.order("release", name, code=2)).err

    await site.order("curtail", FACILITY, "--direct", "--to", "0", "--reason", "drill")
    await site.order("curtail", FACILITY, "--to", "0.01", "--reason", "drill")
    released = json.loads((await site.order("release", "--all", "--json")).out)["orders"]
    assert [one["name"] for one in released] == ["curtail/1", name]
    await until(lambda: site.mining() == ALL, "both are released")


async def test_in_approve_nothing_moves_on_its_own_and_one_approval_is_good_for_all_its_waves(
    hcp, folder, settings, database
):
    with capture_logs():
        async with OperatedSite(hcp, folder, settings, database, ramp_mw=0.112, control_mode="approve") as site:
            await site.start_allocator()
            site.publish_policy()

            async def waiting():
                return json.loads((await site.order("directives", "--json")).out)["approvals"]

            async with asyncio.timeout(120):
                while not (asked := await waiting()):
                    await asyncio.sleep(0.1)
            assert site.asleep() == ALL
            assert database.execute("select count(*) from switch_journal").fetchone() == (0,)
            (one,) = asked
            assert one["subject"].startswith("wave/")
            await site.order("approve", str(one["approval_id"]), "--reason", "go")
            await until(lambda: site.power_w().min() > 1000, "approved, miners and GPUs, wave after wave")
            waves = database.execute("select count(distinct command_id) from switch_journal").fetchone()[0]
            assert waves > 1
            assert await waiting() == [], "nobody is asked again for what is under way"


async def test_a_policy_that_moves_too_much_at_once_waits_for_somebody(hcp, folder, settings, database):
    with capture_logs():
        async with OperatedSite(hcp, folder, settings, database) as site:
            await site.start_allocator(max_policy_jump_mw=0.01)
            site.publish_policy()
            query = "select id, mw from approvals where what = 'policy' and decision is null"
            await until(lambda: database.execute(query).fetchone(), "the allocator asks")
            number, mw = database.execute(query).fetchone()
            assert mw > 0.01
            assert site.owner.in_force is None
            await site.order("approve", str(number), "--reason", "known")
            await until(lambda: site.mining() == ALL, "approved, it is in force")
