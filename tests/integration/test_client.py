"""The client against the API on a socket: once however often it is said, whole lists, no state missed over broken connections."""

import re
import threading
from itertools import islice
from pathlib import Path

import pytest

from hcp_pipelines.client import ApiError, ApiReplyError, ApiUnreachableError, Client, Workload, WorkloadSpec
from hcp_pipelines.client import shapes as ours
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support.api import running_api, with_fleet
from tests.support.cutting import CuttingRelay

DOCS = Path(__file__).resolve().parents[2] / "docs"
BATCH = WorkloadSpec(model_name="llama-3-70b", gpu_count=2, estimated_duration_s=600)
SCHEDULED = "update workloads set status = 'scheduled', queued_at = null, lease_owner = 'x', lease_epoch = 1"


@pytest.fixture
def api(settings):
    with_fleet(settings)
    with running_api(settings) as running:
        yield running


@pytest.fixture
def relay(api):
    with CuttingRelay(int(api.base_url.rpartition(":")[2])) as running:
        yield running


def client_of(api, who="customer", base_url=None, patience_s=10.0):
    return Client(base_url or api.base_url, api.people[who].key, patience_s)


def change(api, *statements):
    with connect(api.settings, Role.ADMIN) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(api, statement):
    with connect(api.settings, Role.ADMIN) as connection:
        return connection.execute(statement).fetchall()


def test_work_is_submitted_read_and_cancelled_and_a_refusal_is_one_typed_error(api):
    with client_of(api) as client:
        made = client.submit(BATCH)
        assert (made.status, made.workload_type, made.is_repeat) == ("queued", "ai_inference_batch", False)
        found = client.workload(made.workload_id)
        assert found.spec == {"model_name": "llama-3-70b", "gpu_count": 2, "estimated_duration_s": 600}
        assert client.queue_depths().waiting == 1
        assert client.cancel(made.workload_id).status is WorkloadState.CANCELLED
        assert client.status(made.workload_id).status.is_final
        with pytest.raises(ApiError, match="B9000") as never:
            client.submit(WorkloadSpec(gpu_type="B9000"))
        assert (never.value.status, never.value.is_passing, never.value.exit_code) == (422, False, 1)
        assert never.value.title == "The request can't be carried out"
        assert re.fullmatch(r"[0-9a-f]{16,}", never.value.request_id)
        with pytest.raises(ApiError) as wrong:
            client.submit(WorkloadSpec(gpu_count=0))
        assert [one.where for one in wrong.value.errors] == ["body.gpu_count"]
    with Client(api.base_url, "hcp_wrong") as nobody, pytest.raises(ApiError) as unknown:
        nobody.queue_depths()
    assert (unknown.value.status, unknown.value.exit_code) == (401, 2)


def test_a_submission_whose_answer_was_lost_is_made_once_and_nobody_there_is_said_when_patience_ends(api, relay):
    with client_of(api, base_url=relay.base_url) as client:
        relay.replies_to_lose = 2
        made = client.submit(BATCH)
        assert relay.connections == 3
        assert made.is_repeat
        assert client.submit(BATCH).workload_id != made.workload_id  # another call is other work
        again = [client.submit(BATCH, idempotency_key="mine").workload_id for _ in range(2)]
        assert again[0] == again[1]
    assert rows(api, "select count(*) from workloads") == [(3,)]
    with client_of(api, base_url=relay.base_url, patience_s=0.6) as client:
        before, relay.replies_to_lose = relay.connections, 100
        with pytest.raises(ApiUnreachableError, match="no answer"):
            client.queue_depths()
        assert relay.connections > before + 1


def test_retry_after_is_obeyed_within_the_patience(settings):
    with running_api(settings, "update request_limits set per_minute = 120, burst = 1") as api:
        with client_of(api, patience_s=0.0) as hasty, pytest.raises(ApiError, match="try again in") as refused:
            list(map(Client.queue_depths, [hasty] * 10))
        assert (refused.value.status, refused.value.is_passing) == (429, True)
        assert refused.value.retry_after_s > 0
        with client_of(api, patience_s=20.0) as client:
            assert [client.queue_depths().waiting for _ in range(2)] == [0, 0]


def read_every_list(client, document, filled):
    """Each list that the API describes, as `rows` reads it by itself, and its first pages of one where it takes that."""
    lists = []
    for path, methods in document["paths"].items():
        operation = methods.get("get", {"responses": {}})
        shape = operation["responses"].get("200", {"content": {}})["content"].get("application/json", {"schema": {}})
        name = shape["schema"].get("$ref", "").rpartition("/")[2]
        if "items" in document["components"]["schemas"].get(name, {"properties": {}})["properties"]:
            lists.append((path.format(**filled), operation.get("parameters", [])))
    assert len(lists) > 15
    refused = {}
    for path, takes in lists:
        params = {one["name"]: filled[one["name"]] for one in takes if one["in"] == "query" and one["required"]}
        try:
            found = list(client.rows(path, params))
        except ApiError as error:
            refused[path] = error.status
            continue
        if any(one["name"] == "limit" for one in takes):
            assert len(list(islice(client.rows(path, params, page=1), 2))) == min(len(found), 2), path
    nothing_yet = ("/api/v1/resources/capacity/forecast", "/api/v1/economic/profitability/hou-1/s21")
    assert refused == dict.fromkeys(nothing_yet, 404)


def test_lists_are_whole_over_pages_and_shapes_those_of_the_api(api):
    with client_of(api) as client:
        made = [client.submit(BATCH).workload_id for _ in range(5)]
        assert [one.workload_id for one in client.workloads(page=2)] == made[::-1]
        assert list(client.workloads(status=WorkloadState.RUNNING)) == []
        assert [one["workload_id"] for one in islice(client.rows("/api/v1/workloads", page=1), 1)] == [str(made[-1])]
        with pytest.raises(ApiReplyError, match="no list"):
            next(client.rows("/health"))
    with api.client() as nobody:
        page = nobody.get("/openapi.json").json()
        told = page["components"]["schemas"]
        with client_of(api, "admin") as admin:
            filled = {"facility_id": "hou-1", "name": "s21", "workload_id": made[0], "type": "electricity"}
            read_every_list(admin, page, filled)
        stream = page["paths"]["/api/v1/workloads/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
        told["StateChanged"] = stream["schema"]["properties"]["data"]["contentSchema"]
    names = {
        ours.Workload: "WorkloadShown",
        ours.Decision: "WorkloadDecision",
        ours.Decisions: "WorkloadDecisions",
        ours.FieldProblem: "FieldProblem",
    }
    for shape in (
        ours.WorkloadSpec,
        ours.Submission,
        ours.StateChanged,
        Workload,
        ours.Status,
        ours.Depth,
        ours.Depths,
        ours.Verdict,
        ours.Cloud,
        ours.Decision,
        ours.Decisions,
        ours.Allocation,
        ours.FieldProblem,
    ):
        theirs = told[names.get(shape, shape.__name__)]
        own = set(shape.model_fields) - {"is_repeat", "event_id"}
        assert own == set(theirs["properties"]), shape


def test_a_watch_tells_each_state_up_to_the_last_though_connections_break(api, relay):
    with client_of(api) as client, client_of(api, base_url=relay.base_url, patience_s=1.0) as watching:
        made = client.submit(BATCH).workload_id
        client.submit(BATCH)
        only = f" where id = '{made}'"
        states = watching.watch(made)
        first = next(states)
        assert (first.new_state, first.event_id) == ("queued", None)
        threading.Event().wait(1.1)  # patience counts from the break, however long it was quiet before
        relay.cut()  # before an event was heard
        change(api, SCHEDULED + only)
        assert next(states).new_state == "scheduled"
        change(api, f"update workloads set status = 'running'{only}")
        assert next(states).new_state == "running"
        relay.cut()
        change(api, f"update workloads set status = 'paused'{only}", f"update workloads set status = 'running'{only}")
        change(api, f"update workloads set status = 'completed'{only}")
        assert [one.new_state for one in states] == ["paused", "running", "completed"]
        assert [one.new_state for one in watching.watch(made)] == ["completed"]
        told = watching.events(after=0)
        heard = [next(told)]
        relay.cut()
        heard += islice(told, 6)
        assert [one.event_id for one in heard] == [
            number for (number,) in rows(api, "select id from workload_events order by id")
        ]
        assert next(client.events(after=heard[-2].event_id)) == heard[-1]


def test_a_watch_ends_with_an_error_when_the_key_does(api):
    with client_of(api) as client:
        states = client.watch(client.submit(BATCH).workload_id)
        next(states)
        change(api, "update api_keys set revoked_at = now()", "notify hcp_account")
        with pytest.raises(ApiError) as ended:
            next(states)
        assert ended.value.status == 401
    with client_of(api, "other") as other, pytest.raises(ApiError):
        other.queue_depths()


@pytest.mark.parametrize(
    "url", ["http://hcp.example", "hcp.example", "https://u:p@hcp.example", "http://127.0.0.1.evil.example"]
)
def test_a_key_goes_nowhere_in_the_clear(url):
    with pytest.raises(ConfigError, match="no address of an API"):
        Client(url, "hcp_x")


def test_the_example_of_the_page_runs(api, tmp_path, capsys, monkeypatch):
    source = (DOCS / "api.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(api.people["customer"].key + "\n")
    source = source.replace("http://127.0.0.1:8080", api.base_url)
    exec(compile(source, "docs/api.md", "exec"), {})
    assert re.findall(r"^\S+ \S+ (queued|cancelled)$", capsys.readouterr().out, re.MULTILINE) == ["queued", "cancelled"]
    assert rows(api, "select count(*) from workloads") == [(1,)]
