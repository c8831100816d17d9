"""Workloads over the API: taken in once, seen by their own customer alone, cancelled, told as events of which none is missing."""

import contextlib
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.api import fanout
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from tests.support.api import running_api, with_fleet

BATCH = {"model_name": "llama-3-70b", "gpu_count": 2, "estimated_duration_s": 600}
SUBMIT = "/api/v1/workloads/submit"


@pytest.fixture
def api(settings):
    with_fleet(settings)
    with running_api(settings) as running:
        yield running


def events_of(client, last=None, within_s=1.0):
    """(id, data) of the events that a stream tells until it ends."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    found, number = [], None
    with client.stream("GET", "/api/v1/workloads/events", params={"within_s": within_s}, headers=headers) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                found.append((number, json.loads(line[6:])))
    return found


def test_a_submission_is_taken_once_and_can_be_followed_and_cancelled(api):
    with api.client("customer") as own:
        first = own.post(SUBMIT, json=BATCH, headers={"Idempotency-Key": "a"})
        assert first.status_code == 202, first.text
        assert first.json()["workload_type"] == "ai_inference_batch"
        again = own.post(SUBMIT, json=BATCH, headers={"Idempotency-Key": "a"})
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["workload_id"] == first.json()["workload_id"]
        other = own.post(SUBMIT, json=BATCH | {"gpu_count": 1}, headers={"Idempotency-Key": "a"})
        assert other.status_code == 422
        nowhere = own.post(SUBMIT, json=BATCH | {"sla_parameters": {"client_lat": 91, "client_lon": 0}})
        assert nowhere.status_code == 400
        assert "sla_parameters.client_lat: degrees, -90 to 90" in nowhere.json()["detail"]
        path = f"/api/v1/workloads/{first.json()['workload_id']}"
        assert own.get(path).json()["spec"] == BATCH
        assert own.get(f"{path}/status").json()["status"] == "queued"
        depths = own.get("/api/v1/workloads/queue/depth").json()
        assert depths["waiting"] == 1
        assert len(depths["items"]) == 10
        assert own.put(f"{path}/cancel").json()["status"] == "cancelled"
        assert own.put(f"{path}/cancel").status_code == 200, "a PUT again changes nothing"


def test_a_class_is_learnt_where_rules_would_err_and_its_reasons_are_told(api):
    chat = {"model_name": "concierge-9b", "max_latency_ms": 1500, "interruptible": False, "batch_size": 1}
    with api.client("customer") as own:
        told = own.post(SUBMIT, json=chat).json()
    assert (told["workload_type"], told["is_flagged"]) == ("ai_inference_realtime", False)
    assert 0.8 <= told["confidence"] <= 1
    assert "it may not be interrupted" in told["reasons"]


def test_what_is_over_is_not_cancelled(api):
    with api.client("customer") as own, connect(api.settings, Role.ADMIN) as connection:
        path = f"/api/v1/workloads/{own.post(SUBMIT, json=BATCH).json()['workload_id']}"
        connection.execute(
            "update workloads set status = 'scheduled', queued_at = null, lease_owner = 'x', lease_epoch = 1"
        )
        connection.execute("update workloads set status = 'running'")
        connection.execute("update workloads set status = 'completed'")
        refused = own.put(f"{path}/cancel")
        assert refused.status_code == 409
        assert "invalid state transition from completed" in refused.json()["detail"]


def test_customers_see_and_touch_their_own_work_alone(api):
    with api.client("customer") as own, api.client("other") as other, api.client("viewer") as viewer:
        path = f"/api/v1/workloads/{own.post(SUBMIT, json=BATCH).json()['workload_id']}"
        theirs = str(api.people["customer"].customer_id)
        for reply in (other.get(path), other.get(f"{path}/status"), other.put(f"{path}/cancel")):
            assert reply.status_code == 404
            assert theirs not in reply.text
        assert other.get("/api/v1/workloads", params={"customer_id": theirs}).json()["items"] == []
        assert other.post(SUBMIT, params={"customer_id": theirs}, json=BATCH).status_code == 403
        assert events_of(other, last=0, within_s=0) == []
        assert len(own.get("/api/v1/workloads").json()["items"]) == 1
        assert viewer.get(path).status_code == 200
        assert viewer.put(f"{path}/cancel").status_code == 403
        assert own.get(f"{path}/status").json()["status"] == "queued"


def test_operators_submit_for_a_customer_whom_they_name(api):
    with api.client("operator") as operator:
        assert operator.post(SUBMIT, json=BATCH).status_code == 400
        nobody = "00000000-0000-4000-8000-000000000000"
        assert operator.post(SUBMIT, params={"customer_id": nobody}, json=BATCH).status_code == 404
        named = {"customer_id": str(api.people["other"].customer_id)}
        made = operator.post(SUBMIT, params=named, json=BATCH).json()
        found = operator.get(f"/api/v1/workloads/{made['workload_id']}").json()
        assert found["customer_id"] == named["customer_id"]


def submissions(status):
    labels = {"workload_type": "ai_inference_batch", "status": status}
    return REGISTRY.get_sample_value("hcp_workload_requests_total", labels) or 0


def test_what_could_never_run_and_what_is_above_the_quota_is_said_at_once_and_counted(api):
    before = submissions("accepted"), submissions("refused")
    with api.client("customer") as own:
        never = own.post(SUBMIT, json=BATCH | {"gpu_type": "B9000"})
        assert never.status_code == 422
        assert "B9000" in never.json()["detail"]
        too_near = own.post(SUBMIT, json=BATCH | {"max_latency_ms": 0.0001})
        assert (too_near.status_code, "would do is 5 ms away" in too_near.json()["detail"]) == (422, True)
        for name, value in {"gpu_count": True, "memory_gb": "2", "deadline_at": 1_767_225_600}.items():
            loose = own.post(SUBMIT, json=BATCH | {name: value})
            assert (loose.status_code, f"body.{name}" in loose.text) == (400, True)
        too_many = own.post(SUBMIT, json=BATCH | {"gpu_count": 60_000})
        assert (too_many.status_code, "retry-after" in too_many.headers) == (422, False), "no waiting helps"
        assert "60000 GPUs are asked for, this customer may hold" in too_many.json()["detail"]
        with connect(api.settings, Role.ADMIN) as connection:
            connection.execute("update tier_quotas set max_waiting = 1")
        assert own.post(SUBMIT, json=BATCH).status_code == 202
        quota = own.post(SUBMIT, json=BATCH)
        assert quota.status_code == 429
        assert int(quota.headers["retry-after"]) > 0
        with connect(api.settings, Role.ADMIN) as connection:
            connection.execute("update tier_quotas set max_waiting = 100")
            connection.execute("update queue_rules set max_waiting = 1")
        full = own.post(SUBMIT, json=BATCH)
        assert full.status_code == 503
        assert int(full.headers["retry-after"]) > 0
    assert (submissions("accepted"), submissions("refused")) == (before[0] + 1, before[1] + 4)


def test_pages_of_workloads_neither_skip_nor_double(api):
    with api.client("customer") as own:
        made = [own.post(SUBMIT, json=BATCH | {"labels": {"n": str(n)}}).json()["workload_id"] for n in range(7)]
        found, after = [], None
        while True:
            params = {"limit": 3} | ({"after": after} if after else {})
            reply = own.get("/api/v1/workloads", params=params).json()
            found += [one["workload_id"] for one in reply["items"]]
            after = reply["next"]
            if after is None:
                break
        assert found == made[::-1]
        assert own.get("/api/v1/workloads", params={"after": "x"}).status_code == 400
        assert own.get("/api/v1/workloads", params={"status": "running"}).json()["items"] == []


def test_events_go_on_behind_the_last_one_that_was_heard(api):
    with api.client("customer") as own:
        made = own.post(SUBMIT, json=BATCH).json()["workload_id"]
        first = events_of(own, last=0, within_s=0)
        assert [(one["old_state"], one["new_state"]) for _, one in first] == [(None, "queued")]
        own.put(f"/api/v1/workloads/{made}/cancel")
        behind = events_of(own, last=first[0][0], within_s=0)
        assert [(one["workload_id"], one["new_state"]) for _, one in behind] == [(made, "cancelled")]


def test_events_come_as_they_happen(api):
    with api.client("customer") as own, own.stream("GET", "/api/v1/workloads/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": from here on"
        with api.client("operator") as operator:
            named = {"customer_id": str(api.people["customer"].customer_id)}
            operator.post(SUBMIT, params=named, json=BATCH)
        event = next(line for line in lines if line.startswith("event: "))
        assert event == "event: workload.state.changed"


def test_a_stream_of_a_revoked_key_ends(api):
    with api.client("customer") as own, api.client("admin") as admin:
        with own.stream("GET", "/api/v1/workloads/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            admin.post(f"/api/v1/users/{api.people['customer'].user_id}/disable")
            rest = list(lines)
        assert not any(line.startswith("event: ") for line in rest)


def test_streams_of_an_account_are_few_though_many_are_opened_at_once(api):
    with api.client("customer") as own, contextlib.ExitStack() as stack, ThreadPoolExecutor(30) as pool:
        many = [stack.enter_context(api.client("customer")) for _ in range(30)]
        asked = [one.build_request("GET", "/api/v1/workloads/events") for one in many]
        replies = list(pool.map(lambda one, request: one.send(request, stream=True), many, asked))
        for reply in replies:
            stack.callback(reply.close)
        assert Counter(reply.status_code for reply in replies) == {200: 10, 429: 20}
        assert own.get("/api/v1/workloads/events").status_code == 429
        next(reply for reply in replies if reply.status_code == 200).close()
        began = time.monotonic()
        while (status := own.get("/api/v1/workloads/events", params={"within_s": 0}).status_code) != 200:
            assert time.monotonic() < began + 60, status


def test_a_stream_begins_with_where_it_stands_so_that_who_hears_nothing_may_go_on(api):
    with api.client("customer") as own:
        own.post(SUBMIT, json=BATCH)
        with own.stream("GET", "/api/v1/workloads/events") as stream:
            lines = stream.iter_lines()
            began = [next(lines) for _ in range(3)]
        assert (began[0], began[2]) == (": from here on", "")
        own.post(SUBMIT, json=BATCH)
        behind = events_of(own, last=int(began[1].removeprefix("id: ")), within_s=0)
        assert len(behind) == 1, "what came while nobody listened"


def test_who_reads_too_slowly_is_left_with_a_word_and_goes_on_behind_what_was_heard(api, monkeypatch):
    monkeypatch.setattr(fanout, "HELD", 3)
    with api.client("customer") as own, connect(api.settings, Role.ADMIN) as connection:
        for _ in range(6):
            own.post(SUBMIT, json=BATCH)
        with own.stream("GET", "/api/v1/workloads/events") as stream:
            lines = stream.iter_lines()
            began = [next(lines) for _ in range(3)]
            connection.execute("update workloads set status = 'cancelled', queued_at = null")
            rest = list(lines)
        assert any(line.startswith(": you read too slowly") for line in rest), rest
        heard = [int(line[4:]) for line in [*began, *rest] if line.startswith("id: ")]
        behind = events_of(own, last=heard[-1], within_s=0)
        assert len(heard) - 1 + len(behind) == 6


def test_many_streams_cost_one_look_and_miss_nothing_in_the_order_of_commits(api, monkeypatch):
    looks, number = Counter(), 40
    events_after = store.events_after

    async def counted(connection, event_id, customer_id, limit):
        looks[customer_id] += 1
        return await events_after(connection, event_id, customer_id, limit)

    monkeypatch.setattr(store, "events_after", counted)
    heard = {}

    def listen(n):
        found = []
        with api.client("customer") as one, one.stream("GET", "/api/v1/workloads/events", timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            ready.release()
            for line in lines:
                if line.startswith("data: "):
                    found.append(json.loads(line[6:])["workload_id"])
                if len(found) == number:
                    break
        heard[n] = found

    ready = threading.Semaphore(0)
    with ThreadPoolExecutor(9) as pool, api.client("customer") as own:
        listening = [pool.submit(listen, n) for n in range(8)]
        for _ in range(8):
            assert ready.acquire(timeout=60)
        made = [own.post(SUBMIT, json=BATCH).json()["workload_id"] for _ in range(number)]
        for one in listening:
            one.result(60)
    assert all(found == made for found in heard.values())
    assert looks[api.people["customer"].customer_id] == 16, "two pages of each at its beginning"
