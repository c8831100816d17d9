"""Alerts: a condition is one alert, told once by each sink, again while nobody has it, and when it is over."""

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest
from pydantic import SecretStr

from hcp_pipelines.alerts import conditions, silences, sinks, store
from hcp_pipelines.alerts.condition import Condition
from hcp_pipelines.alerts.conditions import find_conditions
from hcp_pipelines.alerts.fields import LOW_SHARE
from hcp_pipelines.alerts.service import Alerter, run_alerts
from hcp_pipelines.alerts.sinks import EmailSink, SinkError, WebhookSink, check_url, make_sinks
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.edge import metrics
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.operators import maintenance
from hcp_pipelines.operators.accounts import Operator, OperatorRole, add
from hcp_pipelines.runtime.http import StatusServer
from hcp_pipelines.runtime.logs import configure_logs
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.status import read_loop
from tests.support.cli import hcp
from tests.support.sinks import endless, http_receiver, mail_server

__all__ = ["hcp"]

BROKEN = Condition("process/feed", "critical", "feed", "feed is not well: exit 1", "see logs/feed.log")
SLOW = Condition("check/disk", "warning", "disk", "disk: 1.0 GB free", "free some")


def age(database, seconds, table="alerts", column="seen_at"):
    database.execute(f"update {table} set {column} = {column} - make_interval(secs => %s)", (seconds,))


def told(database):
    rows = database.execute(
        "select a.key, d.sink, d.event from alert_deliveries d join alerts a on a.id = d.alert_id order by d.id"
    )
    return rows.fetchall()


def test_a_condition_is_one_alert_however_often_it_is_seen(database):
    for _ in range(3):
        assert store.sync(database, [BROKEN, SLOW], ["webhook", "email"], 3600) == 2
    assert told(database) == [(c.key, s, "opened") for c in (BROKEN, SLOW) for s in ("webhook", "email")]


def test_it_is_over_a_minute_after_it_was_last_seen_and_a_new_one_is_another_alert(database):
    store.sync(database, [BROKEN], ["webhook"], 3600)
    assert store.sync(database, [], ["webhook"], 3600) == 1  # just gone: it may come back
    age(database, store.RESOLVE_AFTER_S + 1)
    assert store.sync(database, [], ["webhook"], 3600) == 0
    assert store.sync(database, [BROKEN], ["webhook"], 3600) == 1
    assert [event for *_, event in told(database)] == ["opened", "resolved", "opened"]


def test_what_nobody_acknowledged_is_told_again_and_what_somebody_did_is_not(database):
    store.sync(database, [BROKEN, SLOW], ["webhook"], 3600)
    database.execute("update alert_deliveries set delivered_at = now()")
    (disk,) = database.execute("select id from alerts where key = %s", (SLOW.key,)).fetchone()
    store.acknowledge(database, disk, "ann", "a new disk is on its way")
    age(database, 3601, "alert_deliveries", "created_at")
    store.sync(database, [BROKEN, SLOW], ["webhook"], 3600)
    assert told(database)[2:] == [(BROKEN.key, "webhook", "repeated")]
    with pytest.raises(ConfigError, match="acknowledged already"):
        store.acknowledge(database, disk, "bob", "me too")
    actor, detail = database.execute(
        "select actor, detail from audit_log where action = 'alert_acknowledged'"
    ).fetchone()
    assert (actor, detail["reason"]) == ("ann", "a new disk is on its way")


def silenced(database, minutes=60, *, by="ann", is_critical=False, **matches):
    ends_at = SystemClock().real_now() + timedelta(minutes=minutes)
    operator = Operator(by, OperatorRole.OPERATOR)
    return silences.silence(database, operator, matches, "works", ends_at, is_critical=is_critical)


def test_what_is_silenced_is_kept_and_neither_told_nor_repeated_until_the_silence_ends_by_itself(database):
    number, covered = silenced(database, kind="check", subject="disk")
    assert (covered.alerts, covered.left_out) == (0, 0)
    for _ in range(2):
        store.sync(database, [SLOW, BROKEN], ["webhook"], 3600)
    assert told(database) == [(BROKEN.key, "webhook", "opened")]
    assert [(row[2], row[-1]) for row in store.list_alerts(database, with_resolved=False)] == [
        (BROKEN.key, ""), (SLOW.key, f"silence/{number}")
    ]  # fmt: skip
    (listed,) = silences.list_silences(database, with_ended=False)
    assert (listed.says, listed.placed_by, listed.reason, listed.open_alerts) == (
        "kind check, subject disk", "ann", "works", 1
    )  # fmt: skip
    age(database, 3601, "alert_silences", "placed_at")
    age(database, 3601, "alert_silences", "ends_at")
    store.sync(database, [SLOW, BROKEN], ["webhook"], 3600)
    assert told(database)[1:] == [(SLOW.key, "webhook", "opened")]
    assert silences.list_silences(database, with_ended=False) == []
    with pytest.raises(ConfigError, match="does not hold"):
        silences.end_silence(database, Operator("ann", OperatorRole.OPERATOR), number)
    said = "select actor, subject, detail ->> 'reason' from audit_log where action = 'alerts.silenced'"
    assert database.execute(said).fetchall() == [("ann", f"silence/{number}", "works")]


def test_a_silence_needs_all_of_its_labels_and_a_facility_is_one(database):
    apply(database, demo_facilities(1, 120)[0], "test")
    xid = Condition("devices/hou-1/xid", "warning", "hou-1", "xids", "", {"issue": "xid"})
    heat = Condition("devices/hou-1/elevated_temperature", "warning", "hou-1", "heat", "", {"issue": "heat"})
    silenced(database, facility="hou-1", issue="xid")
    silenced(database, facility="dal-1")
    store.sync(database, [xid, heat], ["webhook"], 3600)
    assert told(database) == [(heat.key, "webhook", "opened")]


def test_what_is_critical_is_silenced_by_a_word_for_that_alone_and_not_for_long(database):
    _, plain = silenced(database, subject="feed")
    store.sync(database, [BROKEN], ["webhook"], 3600)
    assert told(database) == [(BROKEN.key, "webhook", "opened")]  # it was no use
    _, plain = silenced(database, subject="feed")
    assert (plain.alerts, plain.left_out) == (0, 1)
    for minutes in (61, -1):
        with pytest.raises(ConfigError, match="within 30 days, or with --critical within one hour"):
            silenced(database, minutes, is_critical=True, subject="feed")
    _, strong = silenced(database, 59, is_critical=True, subject="feed")
    assert (strong.alerts, strong.left_out) == (1, 0)
    store.sync(database, [BROKEN], ["webhook"], 3600)
    assert store.due(database, "webhook") == []  # what nobody has taken yet waits
    for nothing in ({}, {"kind": ""}, {"": "x"}):
        with pytest.raises(ConfigError, match="label"):
            silenced(database, **nothing)


def test_who_was_told_before_a_silence_hears_the_end_and_who_was_not_hears_nothing(database):
    store.sync(database, [SLOW], ["webhook"], 3600)
    (notice,) = store.due(database, "webhook")
    store.delivered(database, notice)
    silenced(database, severity="warning")
    other = Condition("check/power prices", "warning", "power prices", "old")
    store.sync(database, [SLOW, other], ["webhook"], 3600)
    age(database, store.RESOLVE_AFTER_S + 1)
    store.sync(database, [], ["webhook"], 3600)
    assert [(n.key, n.event) for n in store.due(database, "webhook")] == [(SLOW.key, "resolved")]
    resolved = store.list_alerts(database, with_resolved=True)
    assert {row[2]: row[-1].partition("/")[0] for row in resolved} == {SLOW.key: "silence", other.key: "silence"}


def test_what_is_told_of_a_part_in_maintenance_is_no_news_but_if_it_is_critical(database):
    apply(database, demo_facilities(1, 120)[0], "test")
    inventory, now = load_inventory(database, "hou-1"), SystemClock().real_now()
    group, other = (g.group_id for g in inventory.groups[:2])
    part, ann = maintenance.part_of(inventory, group_id=group), Operator("ann", OperatorRole.OPERATOR)
    lead = maintenance.lead_of(inventory, part, 1.0)
    times = maintenance.times_of("hou-1", now, lead, None, timedelta(hours=1))
    planned = maintenance.plan(database, ann, "hou-1", part, times, "a pump")
    seen = [
        Condition(f"boards/hou-1/{name}", "warning", "hou-1", "slow", "", {"group": name}) for name in (group, other)
    ]
    seen.append(Condition(f"hot/hou-1/{group}", "critical", "hou-1", "hot", "", {"group": group}))
    seen.append(Condition(f"alert.journal_refused/hou-1/{group}", "warning", "hou-1", "x", "", {"group": group}))
    store.sync(database, seen[:1], [], 3600)
    assert store.list_alerts(database, with_resolved=False)[0][-1] == ""  # planned, no more
    database.execute("select advance_maintenance(array['hou-1'], %s)", (planned.empties_at,))
    store.sync(database, seen, ["webhook"], 3600)
    rest = [f"boards/hou-1/{other}", f"hot/hou-1/{group}", f"alert.journal_refused/hou-1/{group}"]
    assert [key for key, *_ in told(database)] == rest
    database.execute("select advance_maintenance(array['hou-1'], %s)", (planned.ends_at,))
    store.sync(database, seen, ["webhook"], 3600)
    assert [key for key, *_ in told(database)][3:] == [f"boards/hou-1/{group}"]


def test_what_a_facility_owes_or_refuses_is_told_while_all_of_it_is_in_maintenance(database):
    apply(database, demo_facilities(1, 120)[0], "test")
    inventory, now = load_inventory(database, "hou-1"), SystemClock().real_now()
    times = maintenance.Times(now, now, now + timedelta(hours=1))
    ann = Operator("ann", OperatorRole.OPERATOR)
    maintenance.plan(database, ann, "hou-1", maintenance.part_of(inventory), times, "a transformer")
    database.execute("select advance_maintenance(array['hou-1'], %s)", (now,))
    owed = ["alert.obligation_short", "alert.obligation_failed", "alert.locks_behind", "alert.epoch_behind"]
    kinds = [*owed, "policy_refused", "hold", "solve_failed", "boards", "unsettled"]
    store.sync(database, [Condition(f"{kind}/hou-1", "warning", "hou-1", "x") for kind in kinds], [], 3600)
    silent = {row[2]: row[-1] for row in store.list_alerts(database, with_resolved=False)}
    assert {key for key, by in silent.items() if by == "maintenance/1"} == {"boards/hou-1", "unsettled/hou-1"}


def test_postgres_itself_holds_who_may_insert_to_the_limits(settings, database):
    apply(database, demo_facilities(1, 120)[0], "test")
    silence = "insert into alert_silences (matches, is_critical, placed_by, reason, {}ends_at) values ({}"
    own = """'{"kind": "check"}', true, 'x', 'y', """
    window = """insert into maintenance_windows (facility_id, scope, planned_by, reason, empties_at, begins_at, ends_at{})
                values ('hou-1', 'site', 'x', 'y', now(), now(), now() + {})"""
    with connect(settings, Role.OPERATOR) as operator:
        for denied in (
            silence.format("placed_at, ", own) + "now() + interval '5 years', now() + interval '5 years 1 hour')",
            window.format(", planned_at", "interval '1 h', now()"),
            window.format(", ended_at, ended_by", "interval '1 h', now(), 'x'"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                operator.execute(denied)
        with pytest.raises(psycopg.errors.CheckViolation):
            operator.execute(silence.format("", own) + "now() + interval '61 minutes')")
        with pytest.raises(psycopg.errors.CheckViolation, match="ends_in_time"):
            operator.execute(window.format("", "interval '31 days'"))
        operator.execute(window.format("", "interval '30 days'"))
    later = "now() + interval '5 years', now() + interval '5 years 1 hour')"
    database.execute(silence.format("placed_at, ", own) + later)
    store.sync(database, [SLOW], ["webhook"], 3600)
    assert [key for key, *_ in told(database)] == [SLOW.key], "a silence of another day holds nothing back"


def test_operators_silence_by_command_and_end_it_early(hcp, settings, database):
    for name, role in (("ann", OperatorRole.OPERATOR), ("vic", OperatorRole.VIEWER)):
        add(settings, database, name, role, "test")
    store.sync(database, [SLOW, BROKEN], ["webhook"], 3600)

    def run(*typed, by="ann"):
        return hcp("alerts", *typed, "--state-dir", settings.state_dir, HCP_OPERATOR=by)

    order = (
        "silence",
        "--kind",
        "check",
        "--label",
        "subject=disk",
        "--for",
        "2h",
        "--reason",
        "a new disk is on its way",
    )
    assert (run(*order, by="vic").code, run(*order[:-4], *order[-2:]).code) == (1, 2)
    assert silences.list_silences(database, with_ended=True) == []
    placed = run(*order)
    assert (placed.code, "open alerts that it is of: 1" in placed.out) == (0, True)
    (one,) = json.loads(run("silences", "--json").out)["silences"]
    assert (one["matches"], one["placed_by"]) == ({"kind": "check", "subject": "disk"}, "ann")
    listed = json.loads(run("list", "--json").out)["alerts"]
    assert {row["key"]: row["silenced_by"] for row in listed} == {SLOW.key: f"silence/{one['number']}", BROKEN.key: ""}
    assert "silence/" in run("list").out
    assert "a new disk" in run("silences").out
    left_out = run("silence", "--label", "severity=critical", "--for", "1h", "--reason", "x")
    assert "told all the same: 1" in left_out.out
    assert run("silence", "--label", "severity", "--for", "1h", "--reason", "x").code == 2
    assert run("silence", "--kind", "x", "--for", "3000000d", "--reason", "x").code == 2
    assert run("unsilence", str(one["number"])).code == 0
    assert run("unsilence", str(one["number"])).code == 2
    ended = database.execute("select actor, subject from audit_log where action = 'alerts.silence_ended'").fetchall()
    assert ended == [("ann", f"silence/{one['number']}")]
    kept = "select actor, subject from audit_log where action = 'alerts.silence.refused'"
    assert database.execute(kept).fetchall() == [("vic", "kind=check, subject=disk")]


async def test_the_webhook_gets_a_signed_document(database):
    store.sync(database, [BROKEN], ["webhook"], 3600)
    (notice,) = store.due(database, "webhook")
    async with http_receiver() as receiver:
        await WebhookSink(receiver.url, b"secret", "north").send(notice)
    ((headers, body),) = receiver.requests
    assert headers["x-hcp-signature"] == "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    document = json.loads(body)
    assert (document["platform"], document["event"], document["key"]) == ("north", "opened", BROKEN.key)
    assert document["remedy"] == BROKEN.remedy


async def test_a_mail_has_the_alert_and_a_line_break_in_a_summary_is_no_header(database):
    sly = Condition("x", "critical", "x", "broken\r\nBcc: everybody@example.org", "")
    store.sync(database, [sly], ["email"], 3600)
    (notice,) = store.due(database, "email")
    async with mail_server() as server:
        await EmailSink(server.url, "hcp@example.org", ["ops@example.org"], "north").send(notice)
    (mail,) = server.mails
    assert mail["To"] == "ops@example.org"
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("[north critical] broken")
    assert "hcp alerts ack" in mail.get_payload()


@pytest.mark.parametrize(
    ("part", "pause_s", "within_s"),
    [
        pytest.param(b"220-welcome\r\n", 0.0, 240.0, id="a greeting without an end"),
        pytest.param(b"2", 0.0, 240.0, id="a line without an end"),
        pytest.param(b"2", 0.02, 0.3, id="a line that drips"),
        pytest.param(b"220-welcome\r\n", 0.02, 0.3, id="a greeting that drips"),
    ],
)
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_mail_server_that_never_ends_holds_no_thread(database, monkeypatch, scheme, part, pause_s, within_s):
    monkeypatch.setattr(sinks, "MAIL_WITHIN_S", within_s)
    store.sync(database, [BROKEN], ["email"], 3600)
    (notice,) = store.due(database, "email")
    async with asyncio.timeout(120), endless(part, pause_s=pause_s) as (port, is_over):
        sink = EmailSink(f"{scheme}://127.0.0.1:{port}", "hcp@example.org", ["ops@example.org"], "north")
        with pytest.raises(SinkError):
            await sink.send(notice)
        await is_over.wait()  # by the thread: it has come to its end


async def test_a_webhook_answers_with_its_status_and_whatever_follows_is_not_read(database):
    store.sync(database, [BROKEN], ["webhook"], 3600)
    (notice,) = store.due(database, "webhook")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000000000000\r\n\r\n"
    async with asyncio.timeout(120), endless(b"x" * 65_536, begin=head) as (port, is_over):
        await WebhookSink(f"http://127.0.0.1:{port}/hook", b"", "north").send(notice)
        await is_over.wait()


async def test_a_webhook_goes_by_no_proxy_of_the_environment(database, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    store.sync(database, [BROKEN], ["webhook"], 3600)
    (notice,) = store.due(database, "webhook")
    async with http_receiver() as receiver:
        await WebhookSink(receiver.url, b"", "north").send(notice)
    assert len(receiver.requests) == 1


async def test_what_a_sink_refuses_stays_due_and_the_text_does_not_hold_the_url(database):
    store.sync(database, [BROKEN], ["webhook"], 3600)
    (notice,) = store.due(database, "webhook")
    async with http_receiver() as receiver:
        receiver.status = 500
        with pytest.raises(SinkError) as refused:
            await WebhookSink(receiver.url, b"", "north").send(notice)
    assert str(refused.value) == "status 500"
    with pytest.raises(SinkError) as away:
        await WebhookSink(receiver.url, b"", "north").send(notice)
    assert "127.0.0.1" not in str(away.value)
    store.failed(database, notice, str(refused.value))
    assert store.due(database, "webhook") == []  # not at once
    age(database, 6, "alert_deliveries", "next_attempt_at")
    assert [n.attempts for n in store.due(database, "webhook")] == [1]


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://example.org", "example.org", "http://127.0.0.1.example.org/"]
)
def test_alerts_leave_over_tls_only(url):
    with pytest.raises(ConfigError, match="https"):
        check_url("HCP_ALERT_WEBHOOK_URL", url)


def test_a_sink_named_by_halves_is_refused(settings):
    with pytest.raises(ConfigError, match="HCP_SMTP_URL"):
        make_sinks(settings.model_copy(update={"alert_email_to": "ops@example.org"}))


def test_conditions_come_from_processes_policies_and_events(settings, database):
    run = settings.at("run", "status.json")
    run.write_text(json.dumps({"processes": [
        {"name": "feed", "healthy": False, "reason": "exit 1\nmore", "state": "restarting", "log": "logs/feed.log"},
        {"name": "world", "healthy": True, "reason": "", "state": "running", "log": ""},
    ]}))  # fmt: skip
    detail = json.dumps({"policy_id": 7})
    database.execute(
        "insert into audit_log (actor, action, subject, detail) values ('x', 'alert.obligation_short', 'a-1', %s)",
        (detail,),
    )
    database.execute("insert into audit_log (actor, action, subject) values ('x', 'policy.published', 'a-1')")
    found = {c.key: c for c in find_conditions(settings)}
    run.unlink()
    assert found["process/feed"].summary == "feed is not well: exit 1"
    assert found["alert.obligation_short/a-1"].summary == "a-1: obligation short: policy_id 7"
    assert found["alert.obligation_short/a-1"].labels["policy"] == "7"
    assert "process/world" not in found
    assert found["check/power prices"].severity == "warning"  # none has come yet
    assert not any("published" in key for key in found)


def journalled(database, event, failed):
    database.execute(
        """insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, to_state,
               devices, failed, reason, simulated_at)
           values (%s, 'hou-1', 'a', 1, gen_random_uuid(), 0, 1, 's21', 3, 4, %s, 'test', now())""",
        (event, failed),
    )


def said_of_policies(database, facility_id, *admitted):
    """A live policy of a facility for each word of its owner on it."""
    for is_admitted in admitted:
        database.execute(
            """with tick as (
                   insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
                   values ('power.rt_lmp', 'HB_HOUSTON', clock_timestamp(), 'electricity', 20, 'x', 'x', 'good', now())
                   returning id),
               made as (
                   insert into policies (facility_id, status, basis_tick_id, solved_at, refresh_due_at, expires_at,
                       inventory_generation, obligations_version, schema_version, digest, body)
                   select %(of)s, 'live', id, now(), now() + interval '1 h', now() + interval '2 h', 1, 0, 1, 'x', '{}' from tick
                   returning id)
               insert into policy_admissions (policy_id, facility_id, allocator, is_admitted, reason)
               select id, %(of)s, 'allocator-a', %(is_admitted)s, 'stale' from made""",
            {"of": facility_id, "is_admitted": is_admitted},
        )


def test_a_look_is_at_what_is_newest_and_hcp_status_counts_all(settings, database, monkeypatch):
    for document in demo_facilities(2, 120):
        apply(database, document, "test")
    said_of_policies(database, "hou-1", False, True)
    said_of_policies(database, "nor-1", True, False)
    journalled(database, "settled", 4)
    journalled(database, "acked", 0)
    both = {c.key: c.summary for c in find_conditions(settings)}
    assert [key for key in both if key.startswith("policy_refused/")] == ["policy_refused/nor-1"]
    assert both["check/switches"] == "switches: 4 devices acked, 4 settled, 4 failed"
    assert "check/power prices" not in both
    monkeypatch.setattr(conditions, "_LOOKED_AT", 1)
    assert "check/switches" not in {c.key for c in find_conditions(settings)}, "the switch that failed is long ago"
    newest, whole = read_loop(settings, 1), read_loop(settings)
    for loop, ticks, policies, switches in ((newest, 1, 1, 0), (whole, 4, 4, 4)):
        assert loop["ticks"]["power.rt_lmp"]["count"] == ticks
        assert loop["policies"]["count"] == policies
        assert loop["switches"]["failed"] == switches


@pytest.mark.parametrize(
    ("query", "values", "index"),
    [(conditions._REFUSED, (), "policy_admissions_last"), (conditions._EVENTS, (900,), "audit_log_alerts")],
)
def test_what_is_looked_at_each_five_seconds_has_an_index(database, query, values, index):
    with database.transaction():
        database.execute("set local enable_seqscan = off")  # small tables are read whole
        plan = "\n".join(row[0] for row in database.execute(f"explain {query}", values or None))
    assert index in plan


def arrivals(database, series, seconds, stream="weather.test"):
    """Values of a series that came so many seconds ago."""
    now = SystemClock().real_now()
    for ago in seconds:
        at = now - timedelta(seconds=ago)
        database.execute(
            """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
            values (%s, %s, %s, 'weather', 20, 'C', 'x', 'good', %s)""",
            (stream, series, at, at),
        )


def test_prices_that_stay_away_for_longer_than_is_usual_of_them_are_a_gap(settings, database):
    arrivals(database, "on time", range(0, 600, 60))
    arrivals(database, "late", range(200, 800, 60))
    arrivals(database, "later", range(400, 1000, 60))
    arrivals(database, "seldom", (3000, 7000, 9000, 11_000, 14_000))
    arrivals(database, "once", (90_000,))
    arrivals(database, "gone", range(700_000, 700_600, 60))
    arrivals(database, "EEA", range(400, 1000, 60), "grid.signal")
    arrivals(database, "H100/cloud/offer", range(400, 1000, 60), "gpu.spot")
    (gap,) = [c for c in find_conditions(settings) if c.key.startswith("gap/")]
    assert (gap.key, gap.labels["stream"]) == ("gap/weather.test", "weather.test")
    assert "nothing of later for 400 simulated s, 60 s at most are usual, and 1 more series" in gap.summary


async def test_feeders_without_power_and_groups_that_hash_as_with_dead_boards_are_alerts(settings, database):
    apply(database, demo_facilities(1, 600)[0], "test")
    group = next(g for g in load_inventory(database, "hou-1").groups if g.type == "ASIC")
    few = max(int(LOW_SHARE * group.devices), 5)
    gauge = metrics.ASIC_LOW_HASHRATE.labels("hou-1", group.group_id)
    metrics.ASIC_LOW_HASHRATE.labels("hou-1", "of another inventory").set(500)
    metrics.DARK.labels("hou-1", "f1").set(0)
    metrics.DARK.labels("hou-1", "f2").set(60)
    async with gateway_tells(settings):
        dark = [c for c in await asyncio.to_thread(find_conditions, settings) if c.key.startswith("power/")]
        metrics.DARK.labels("hou-1", "f2").set(0)
        found = []
        for miners in (few, few + 1):
            gauge.set(miners)
            found += [c for c in await asyncio.to_thread(find_conditions, settings) if c.key.startswith("boards/")]
    assert [(c.key, c.severity, c.labels["feeder"]) for c in dark] == [("power/hou-1/f2", "critical", "f2")]
    (only,) = found
    assert (only.key, only.labels["group"]) == (f"boards/hou-1/{group.group_id}", group.group_id)
    assert f"{few + 1} of {group.devices} miners" in only.summary


@asynccontextmanager
async def gateway_tells(settings):
    """A gateway whose metrics are those of this process."""
    server = StatusServer(dict)
    settings.at("run").mkdir(exist_ok=True)
    record = settings.at("run", "gateway-1.json")
    record.write_text(json.dumps({"urls": {"metrics": f"{await server.start()}/metrics"}}))
    try:
        yield
    finally:
        record.unlink()
        await server.stop()


async def test_what_is_critical_at_devices_is_an_alert_at_the_first_look(settings, database):
    counts = metrics.ISSUES.labels("dal-9", "high_temperature", "critical")
    metrics.ISSUES.labels("dal-9", "throttled", "warning").set(5)
    async with gateway_tells(settings):
        counts.set(2)
        await alerter_looks(settings, 1)
        counts.set(0)
        over = await asyncio.to_thread(find_conditions, settings)
    found = database.execute("select key, severity, summary from alerts").fetchall()
    assert found == [("devices/dal-9/high_temperature", "critical", "dal-9: high temperature at 2 of its devices")]
    assert not any(one.key.startswith("devices/") for one in over)


async def alerter_looks(settings, times, *, is_ready=True):
    settings.at("run").mkdir(exist_ok=True)
    settings.at("run", "status.json").write_text(json.dumps({"ready": is_ready, "processes": []}))
    context = ProcessContext("alerts", settings, SystemClock(), configure_logs("alerts", "error"))
    alerter = Alerter(context)
    for _ in range(times):
        await alerter.look()
    return alerter, context


async def test_a_warning_is_told_at_the_second_look_and_delivered_once(settings, database):
    async with http_receiver() as receiver:
        own = settings.model_copy(update={"alert_webhook_url": SecretStr(receiver.url)})
        alerter, _ = await alerter_looks(own, 1)
        assert receiver.requests == []
        await alerter.look()
        await alerter.look()
    keys = [json.loads(body)["key"] for _, body in receiver.requests]
    assert sorted(keys) == ["check/policies", "check/power prices"]


async def test_what_is_still_starting_is_not_wrong(settings, database):
    await alerter_looks(settings, 3, is_ready=False)
    assert store.list_alerts(database, with_resolved=True) == []
    alerter, _ = await alerter_looks(settings, 2)
    settings.at("run", "status.json").write_text("{}")  # not ready any more: that is not a start
    database.execute("delete from alert_deliveries")
    database.execute("delete from alerts")
    await alerter.look()
    assert store.list_alerts(database, with_resolved=True) != []


async def test_the_heart_beats_while_there_is_something_to_see_and_stops_when_there_is_not(settings, database):
    async with http_receiver() as receiver:
        own = settings.model_copy(update={"alert_heartbeat_url": SecretStr(receiver.url), "alert_heartbeat_s": 0.02})
        alerter, context = await alerter_looks(own, 1)
        beating = asyncio.create_task(alerter.beat())
        while len(receiver.requests) < 2:
            await asyncio.sleep(0.01)
        alerter._looked_at_s -= 60
        await asyncio.sleep(0.05)
        told_before = len(receiver.requests)
        await asyncio.sleep(0.1)
        beating.cancel()
    assert len(receiver.requests) == told_before
    assert context.health["heartbeat"] == ""


async def test_without_a_heart_it_watches_all_the_same_until_it_is_told_to_stop(settings, database):
    assert settings.alert_heartbeat_url is None
    context = ProcessContext("alerts", settings, SystemClock(), configure_logs("alerts", "INFO"))
    running = asyncio.create_task(run_alerts(context))
    await asyncio.sleep(0.3)
    assert not running.done()
    context.stop.set()
    await asyncio.wait_for(running, 60)


async def test_postgres_away_is_told_from_memory_once(settings, tmp_path):
    async with http_receiver() as receiver:
        away = settings.model_copy(update={"state_dir": tmp_path, "alert_webhook_url": SecretStr(receiver.url)})
        await alerter_looks(away, 4)
    assert [json.loads(body)["key"] for _, body in receiver.requests] == ["postgres"]
