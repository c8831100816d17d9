"""Alerts: a condition is one alert, told once by each sink, again while nobody has it, and when it is over."""

import asyncio
import hashlib
import hmac
import json

import pytest
from pydantic import SecretStr

from hcp_pipelines.alerts import sinks, store
from hcp_pipelines.alerts.conditions import Condition, find_conditions
from hcp_pipelines.alerts.service import Alerter, run_alerts
from hcp_pipelines.alerts.sinks import EmailSink, SinkError, WebhookSink, check_url, make_sinks
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.edge import metrics
from hcp_pipelines.runtime.http import StatusServer
from hcp_pipelines.runtime.logs import configure_logs
from hcp_pipelines.runtime.process import ProcessContext
from tests.support.sinks import endless, http_receiver, mail_server

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
    assert "process/world" not in found
    assert found["check/power prices"].severity == "warning"  # none has come yet
    assert not any("published" in key for key in found)


async def test_what_is_critical_at_devices_is_an_alert_at_the_first_look(settings, database):
    counts = metrics.ISSUES.labels("dal-9", "high_temperature", "critical")
    metrics.ISSUES.labels("dal-9", "throttled", "warning").set(5)
    server = StatusServer(dict)
    settings.at("run").mkdir(exist_ok=True)
    settings.at("run", "gateway-1.json").write_text(
        json.dumps({"urls": {"metrics": f"{await server.start()}/metrics"}})
    )
    try:
        counts.set(2)
        await alerter_looks(settings, 1)
        counts.set(0)
        over = await asyncio.to_thread(find_conditions, settings)
    finally:
        settings.at("run", "gateway-1.json").unlink()
        await server.stop()
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
