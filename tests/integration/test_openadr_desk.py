"""Grid events on a real database: taken on as awards are, answered out with the reason, called, changed, cancelled."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
import structlog
import yaml

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.modes import DispatchRegime
from hcp_pipelines.feed.enrolment import Enrolment
from hcp_pipelines.feed.grid_events import TEST, EventDesk
from hcp_pipelines.feed.grid_signals import grid_signals
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.fleet.obligations import flexible_of
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, Interval
from hcp_pipelines.operators.accounts import Operator, OperatorRole
from hcp_pipelines.operators.availability import CountedOn
from hcp_pipelines.operators.grid import Award, award
from hcp_pipelines.policy.outlook import Outlook
from hcp_pipelines.runtime.process import ProcessContext
from simulators.openadr.events import Event
from tests.support.cli import hcp
from tests.support.openadr import SIMULATED_S, vtn
from tests.support.waiting import until

__all__ = ["hcp"]

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEED = 60.0
DR, ECRS, EEA, POINTS = "http://u/dr", "http://i/ecrs", "http://i/eea", "http://i/base-points"
BY_THE_BOOKS = Answer(True, "hou-1: no answer of its gateway, devices are taken for well and on")  # there is none here
ENROLMENT = {
    "version": 1, "vtn_url": "http://127.0.0.1:1/x", "resources": {"METER-1": "hou-1"},
    "programmes": {
        DR: {"means": "response", "facilities": ["hou-1", "nor-1"], "notice_s": 900, "most_mw": 50, "mw_by_level": {1: 0.1}},
        ECRS: {"means": "deployment", "name": "ECRS", "facilities": ["hou-1"]},
        EEA: {"means": "alert", "facilities": ["hou-1"], "calls": {"ERS": 1, "ECRS": 2}},
        POINTS: {"means": "base_point", "facilities": ["hou-1", "nor-1"]},
    },
}  # fmt: skip


OUT = [
    ({"programme": "http://u/else"}, "not enrolled in http://u/else"),
    ({"resources": ("METER-9",)}, "METER-9: not enrolled"),
    ({"value": 0.2}, "asks for more load"),
    ({"value": -51.0}, "51 MW, 50 MW are agreed on"),
    ({"value": 0.0}, "asks for nothing"),
    ({"lasts": None}, "has no end"),
    ({"signal": "level", "value": 3.0}, "level 3 has no MW"),
    ({"signal": "other", "value": 3.0}, "no load change and no level"),
    ({"start": NOON - 3 * HOUR}, "it ends at"),
    ({"start": NOON}, "the slowest needs"),
    ({"programme": ECRS}, "nothing of ECRS is sold"),
    ({"programme": POINTS, "signal": "power_limit", "value": 1.0}, "hou-1 is dispatched by self"),
    ({"programme": POINTS, "value": -1.0}, "a base point is a load set point"),
]


@pytest.fixture
def fleet(settings, database):
    first, second = demo_facilities(2, 600)
    apply(database, first, "test")
    apply(database, second.model_copy(update={"dispatch_regime": DispatchRegime.CLR_BASE_POINT}), "test")
    return database


class Desk:
    """The desk at any simulated instant; instants of events are given simulated, too."""

    def __init__(self, settings, database):
        self.settings, self.database = settings, database
        self.opened = []

    def at(self, now=NOON):
        clock = SystemClock(Anchor(datetime.now(UTC), now, SPEED))
        self.opened.append(EventDesk(self.settings, Enrolment.model_validate(ENROLMENT), clock))
        return self.opened[-1]

    def event(self, now=NOON, start=NOON + HOUR, lasts=HOUR, value=-0.1, programme=DR, **changes):
        wall = datetime.now(UTC) + (start - now) / SPEED
        end = None if lasts is None else wall + lasts / SPEED
        kept = {"event_id": "e", "modification": 0, "signal": "power_change", "resources": ("METER-1",)} | changes
        return GridEvent(programme=programme, intervals=(Interval(wall, end, value),), **kept)

    def answer(self, now=NOON, **event):
        return self.at(now).answer(self.event(now, **event))

    def obligations(self):
        return self.database.execute(
            """select facility_id, programme, status, mw, lower(during), upper(during), notice_s, duration_s
               from grid_obligations order by id"""
        ).fetchall()

    def statuses(self):
        return [(facility_id, status) for facility_id, _, status, *_ in self.obligations()]

    def signals(self, *kinds):
        return self.database.execute(
            """select kind, facility_id, payload, effective_at from grid_signals where kind = any(%s) order by id""",
            (list(kinds),),
        ).fetchall()

    def audited(self):
        rows = self.database.execute("select action, subject from audit_log where actor = 'openadr' order by id")
        return rows.fetchall()

    def set_status(self, status):
        self.database.execute("update grid_obligations set status = %s where status <> 'withdrawn'", (status,))


@pytest.fixture
def desk(settings, fleet):
    made = Desk(settings, fleet)
    yield made
    for each in made.opened:
        each.close()


@pytest.fixture
def can_mw(fleet):
    return sum(f.mw for f in flexible_of(load_inventory(fleet, "hou-1")))


def near(instant):
    return pytest.approx(instant.timestamp(), abs=30)


def sell(database, programme="ECRS", mw=0.1, tranche="all", facility="hou-1"):
    asked = Award(programme, mw, NOON, NOON + 6 * HOUR, 600.0, 3600.0, 0.0, 15_000.0, tranche)
    there_is = CountedOn(Outlook(NOON.timestamp()))
    ann = Operator("ann", OperatorRole.OPERATOR)
    return award(database, ann, load_inventory(database, facility), asked, there_is, NOON, "sold")


def test_a_response_becomes_an_obligation_that_is_called_in_time_to_be_there_when_it_begins(desk):
    assert desk.answer() == BY_THE_BOOKS
    ((facility, programme, status, mw, since, until, notice_s, duration_s),) = desk.obligations()
    assert (facility, programme, status, mw) == ("hou-1", "DR", "awarded", 0.1)
    assert (since.timestamp(), until.timestamp()) == (near(NOON + HOUR - timedelta(seconds=900)), near(NOON + 2 * HOUR))
    assert (notice_s, duration_s) == (pytest.approx(900, abs=1), pytest.approx(3600, abs=1))
    assert desk.signals("deploy", "recall") == []
    desk.at(NOON + HOUR - timedelta(seconds=900 + 60)).pass_due()
    ((kind, where, payload, at),) = desk.signals("deploy", "recall")
    assert (kind, where, at.timestamp()) == ("deploy", "hou-1", near(NOON + HOUR - timedelta(seconds=900)))
    desk.at(NOON + HOUR).pass_due()
    assert len(desk.signals("deploy", "recall")) == 1
    assert ("event.opted_in", "event/e") in desk.audited()
    assert ("obligation.awarded", f"obligation/{payload['obligation_id']}") in desk.audited()


def test_an_event_is_judged_once_whoever_asks_again(desk):
    assert [desk.answer(), desk.answer(), desk.answer(NOON + HOUR, start=NOON + HOUR)] == [BY_THE_BOOKS] * 3
    assert len(desk.obligations()) == 1


def test_what_cant_be_met_is_answered_out_with_the_reason_of_an_award_and_stays_out(desk, can_mw):
    refused = desk.answer(value=-1.2 * can_mw)
    assert not refused.is_in
    assert f"{can_mw:.2f} MW settle within the notice" in refused.reason
    assert (desk.answer(value=-1.2 * can_mw), desk.obligations()) == (refused, [])
    assert desk.audited() == [("event.opted_out", "event/e")]
    (kept,) = desk.signals("event")
    assert (kept[2]["opt"], kept[2]["reason"]) == ("optOut", refused.reason)


def test_why_an_event_is_out(desk):
    for number, (changes, reason) in enumerate(OUT):
        answer = desk.answer(event_id=f"e-{number}", **changes)
        assert (answer.is_in, reason in answer.reason) == (False, True), (changes, answer)
    assert desk.obligations() == []


def test_without_targets_it_is_shared_by_capacity_and_taken_on_by_all_or_none(desk, fleet, can_mw):
    assert desk.answer(resources=(), signal="level", value=1.0).is_in
    shares = {facility: mw for facility, _, _, mw, *_ in desk.obligations()}
    assert sum(shares.values()) == pytest.approx(0.1)
    capacities = {f: load_inventory(fleet, f).capacity_mw for f in shares}
    assert shares["hou-1"] / shares["nor-1"] == pytest.approx(capacities["hou-1"] / capacities["nor-1"])
    sell(fleet, mw=can_mw * 0.9, tranche="b")
    late = NOON + 2.5 * HOUR
    assert not desk.answer(event_id="f", resources=(), value=-0.5 * can_mw, start=late).is_in
    assert [programme for _, programme, *_ in desk.obligations()] == ["DR", "DR", "ECRS"]


def test_a_row_that_is_none_is_told_and_costs_the_others_nothing(desk, fleet):
    sell(fleet)
    fleet.execute(
        """insert into grid_signals (kind, payload, source, source_event_id, effective_at, ends_at, received_at)
           values ('event', '{"event_id": "x"}', 'openadr', 'x', %s, %s, %s)""",
        (NOON, NOON + HOUR, NOON),
    )
    assert desk.answer(programme=ECRS, signal="level", value=1.0, start=NOON).is_in
    with pytest.raises(KeyError):
        desk.at().pass_due()
    assert [kind for kind, *_ in desk.signals("deploy")] == ["deploy"]


def test_the_command_shows_the_newest_word_of_each_event(desk, hcp, settings):
    def shown(*options):
        done = hcp("grid", "events", *options, "--state-dir", settings.state_dir)
        assert done.code == 0, done
        return done.out

    assert "No events." in shown()
    desk.answer()
    desk.answer(event_id="f", programme="http://u/else")
    desk.answer(modification=1, is_cancelled=True)
    cancelled, refused = json.loads(shown("--json"))["events"]
    assert (cancelled["event_id"], cancelled["modification"], cancelled["means"]) == ("e", 1, "cancelled")
    assert (refused["event_id"], refused["is_in"], refused["reason"]) == ("f", False, "not enrolled in http://u/else")
    assert "not enrolled in" in " ".join(shown().split())


def test_a_test_event_is_answered_and_moves_nothing(desk):
    assert desk.answer(is_test=True) == Answer(True, TEST)
    assert desk.obligations() == []


def test_cancelled_before_it_is_armed_it_is_withdrawn_and_afterwards_not_called(desk):
    desk.answer()
    assert desk.answer(is_cancelled=True, modification=1) == Answer(True)
    assert desk.statuses() == [("hou-1", "withdrawn")]
    desk.answer(event_id="f")
    desk.set_status("armed")
    desk.answer(event_id="f", is_cancelled=True, modification=1)
    desk.at(NOON + HOUR).pass_due()
    assert (desk.statuses()[1][1], desk.signals("deploy", "recall")) == ("armed", [])


def test_an_older_message_changes_nothing_and_a_cancellation_need_not_count(desk):
    assert desk.answer(modification=3).is_in
    assert desk.answer(value=-0.05, modification=2).is_in
    assert [(status, mw) for _, _, status, mw, *_ in desk.obligations()] == [("awarded", 0.1)]
    desk.answer(modification=3, is_cancelled=True)
    desk.answer(modification=3, is_cancelled=True)
    assert desk.statuses() == [("hou-1", "withdrawn")]
    assert [action for action, _ in desk.audited()].count("event.opted_in") == 2


def test_cancelled_while_it_is_deployed_it_is_recalled(desk):
    desk.answer()
    now = NOON + HOUR
    desk.at(now).pass_due()
    desk.set_status("deployed")
    desk.answer(now, start=now, is_cancelled=True, modification=1)
    *_, (kind, where, _, at) = desk.signals("deploy", "recall")
    assert (kind, where, at.timestamp()) == ("recall", "hou-1", near(now))


def test_a_change_within_what_was_promised_keeps_it_and_any_other_is_judged_anew(desk, can_mw):
    desk.answer(value=-0.1)
    desk.set_status("armed")
    assert desk.answer(value=-0.05, lasts=HOUR / 2, modification=1).is_in
    assert desk.statuses() == [("hou-1", "armed")]
    desk.at(NOON + HOUR).pass_due()
    desk.at(NOON + HOUR * 1.6).pass_due()
    assert [(kind, at.timestamp()) for kind, _, _, at in desk.signals("deploy", "recall")] == [
        ("deploy", near(NOON + HOUR - timedelta(seconds=900))),
        ("recall", near(NOON + HOUR * 1.5)),
    ]
    desk.set_status("awarded")
    assert desk.answer(value=-0.2, modification=2).is_in
    assert [(status, mw) for _, _, status, mw, *_ in desk.obligations()] == [("withdrawn", 0.1), ("awarded", 0.2)]
    assert not desk.answer(value=-2 * can_mw, modification=3).is_in
    assert [status for _, status in desk.statuses()] == ["withdrawn", "withdrawn"]


def test_a_deployment_calls_what_was_sold_and_recalls_it_when_it_is_over(desk, fleet):
    number = sell(fleet)
    event = {"programme": ECRS, "signal": "level", "value": 1.0, "start": NOON}
    assert desk.answer(**event).is_in
    ((kind, facility, payload, at),) = desk.signals("deploy", "recall")
    assert (kind, facility, payload, at.timestamp()) == ("deploy", "hou-1", {"obligation_id": number}, near(NOON))
    desk.at(NOON + HOUR + timedelta(minutes=2)).pass_due()
    assert [(kind, at.timestamp()) for kind, _, _, at in desk.signals("recall")] == [("recall", near(NOON + HOUR))]


def test_an_alert_is_kept_as_the_grids_level_and_calls_what_it_calls(desk, fleet):
    ecrs, ers = sell(fleet), sell(fleet, "ERS", tranche="b")
    assert desk.answer(programme=EEA, signal="level", value=1.0, start=NOON, lasts=None, resources=()).is_in
    assert [payload["obligation_id"] for _, _, payload, _ in desk.signals("deploy")] == [ers]
    assert desk.answer(programme=EEA, signal="level", value=2.0, start=NOON, event_id="f").is_in
    assert [payload["obligation_id"] for _, _, payload, _ in desk.signals("deploy")] == [ers, ecrs, ers]
    levels = fleet.execute("select level from grid_signals where kind = 'eea' order by id").fetchall()
    assert levels == [("1",), ("2",)]


def test_a_base_point_is_told_anew_every_five_minutes_as_long_as_it_lasts(desk, fleet):
    limit = {"programme": POINTS, "signal": "power_limit", "value": 2.0, "resources": ("nor-1",), "start": NOON}
    assert desk.answer(**limit).is_in
    for minutes in (4, 6, 11, 59, 62):
        desk.at(NOON + timedelta(minutes=minutes)).pass_due()
    assert {facility for _, facility, *_ in desk.signals("base_point")} == {"nor-1"}
    told = [(payload["mw"], at.timestamp()) for *_, payload, at in desk.signals("base_point")]
    points = [(2.0, near(NOON + timedelta(minutes=m))) for m in (0, 5, 10, 55)]
    assert told == [*points, ("Infinity", near(NOON + HOUR))]


def test_what_stands_is_what_is_in_and_neither_over_nor_cancelled(desk):
    desk.answer(event_id="stands")
    desk.answer(event_id="out", value=0.2)
    desk.answer(event_id="over", start=NOON + HOUR, lasts=HOUR / 4, programme=EEA, signal="level", value=1.0)
    desk.answer(event_id="gone", start=NOON + 5 * HOUR, programme=EEA, signal="level", value=1.0)
    desk.answer(event_id="gone", start=NOON + 5 * HOUR, is_cancelled=True, modification=1)
    now = NOON + 1.5 * HOUR
    (standing,) = desk.at(now).standing()
    assert (standing.event_id, standing.modification, standing.programme) == ("stands", 0, DR)
    ends_in_s = (standing.end_at - datetime.now(UTC)).total_seconds()
    assert ends_in_s == pytest.approx(HOUR.total_seconds() / 2 / SPEED, abs=1)


async def test_over_3_1_an_event_of_the_worlds_server_is_taken_on_and_given_back(desk, settings, tmp_path):
    (tmp_path / "clients").write_text("hcp:secret\n")
    path = tmp_path / "openadr.yaml"
    programmes = {"response": {"means": "response", "facilities": ["hou-1"], "notice_s": 900}}
    files = {"protocol": "3.1", "vtn_url": "world", "client_secret_file": str(tmp_path / "clients"), "poll_s": 0.5}
    path.write_text(yaml.safe_dump({"version": 1, "programmes": programmes, **files}))
    async with vtn(tmp_path, client_file=tmp_path / "clients", sites=("hou-1",)) as server:
        server.book.publish(Event("ev-a", "response", "", ("hou-1",), SIMULATED_S + 7200, 3600, 0.1))
        ready = settings.at("run", "world.json")
        ready.parent.mkdir(exist_ok=True)
        ready.write_text(json.dumps({"urls": server.urls}))
        clock = SystemClock(Anchor(datetime.now(UTC), NOON, SPEED))
        context = ProcessContext("feed", settings, clock, structlog.get_logger("test"))
        task = asyncio.create_task(grid_signals(context, path).run())
        await until(lambda: desk.statuses() == [("hou-1", "awarded")], "it is taken on")
        server.book.cancel("ev-a")
        await until(lambda: desk.statuses() == [("hou-1", "withdrawn")], "it is given back")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ready.unlink()
