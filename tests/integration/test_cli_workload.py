"""`hcp workload` as a customer types it, against the API on a socket."""

import json

import pytest

from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.lock import StateLock
from tests.support.api import running_api, with_fleet
from tests.support.cli import hcp

__all__ = ["hcp"]


@pytest.fixture
def api(settings):
    with_fleet(settings)
    with running_api(settings) as running:
        yield running


@pytest.fixture
def run(hcp, settings, api, tmp_path):
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(api.people["customer"].key)

    def typed(*arguments, **environment):
        given = {"HCP_API_URL": api.base_url, "HCP_API_KEY_FILE": str(key)} | environment
        return hcp("workload", *arguments, "--state-dir", settings.state_dir, **given)

    return typed


def of_command(out):
    """What the command printed, without the lines of the API in the same process."""
    return "".join(line for line in out.splitlines(keepends=True) if " request  " not in line)


def test_work_is_submitted_listed_shown_and_cancelled(run, tmp_path):
    asked = tmp_path / "spec.json"
    asked.write_text(json.dumps({"model_name": "llama-3-70b", "gpu_count": 1, "labels": {"team": "nlp"}}))
    options = ("--file", asked, "--gpus", "2", "--duration", "10m", "--label", "run=7", "--idempotency-key", "k")
    made = run("submit", *options, "--json")
    assert made.code == 0, made.err
    number = json.loads(of_command(made.out))["workload_id"]
    again = run("submit", *options)
    assert f"{number}: queued (submitted before under this key), ai_inference_batch, priority" in again.out
    [listed] = json.loads(of_command(run("list", "--json").out))
    assert listed["spec"]["labels"] == {"team": "nlp", "run": "7"}
    assert (listed["spec"]["gpu_count"], listed["spec"]["estimated_duration_s"]) == (2, 600)
    assert number in run("list").out
    assert "No such workload." in run("list", "--status", "running").out
    run("submit", "--training")
    assert "There are more than --limit 1." in run("list", "--limit", "1").out
    assert json.loads(of_command(run("show", number, "--json").out))["status"] == "queued"
    assert "llama-3-70b" in run("show", number).out
    told = run("explain", number)
    assert f"{number}: queued, waits" in told.out
    assert "No decision yet" in told.out
    assert json.loads(of_command(run("explain", number, "--json").out))["items"] == []
    assert f"{number}: cancelled" in run("cancel", number).out
    watched = run("watch", number, "--json")
    assert watched.code == 1  # it was not completed
    assert json.loads(of_command(watched.out))["new_state"] == "cancelled"


def test_what_is_wrong_is_one_line_with_the_remedy(run, tmp_path):
    wrong = tmp_path / "spec.json"
    wrong.write_text('{"gpus": 2}')
    infinite = tmp_path / "infinite.json"
    infinite.write_text('{"max_latency_ms": Infinity}')
    for arguments, environment, code, said in (
        (("submit", "--file", wrong), {}, 2, "spec.json: gpus: Extra inputs"),
        (("submit", "--file", infinite), {}, 2, "max_latency_ms: Input should be a finite number"),
        (("submit", "--idempotency-key", "ä b"), {}, 2, "visible ASCII"),
        (("submit", "--label", "x"), {}, 2, "--label x: NAME=VALUE"),
        (("submit", "--gpu-type", "B9000"), {}, 1, "B9000"),
        (("submit", "--gpus", "0"), {}, 2, "body.gpu_count"),
        (("cancel", "9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a"), {}, 1, "(404)"),
        (("list",), {"HCP_API_URL": "http://hcp.example"}, 2, "no address of an API"),
        (("list",), {"HCP_API_URL": ""}, 1, "No platform runs on"),
        (("list",), {"HCP_API_KEY_FILE": str(wrong)}, 2, "chmod 600"),
    ):
        done = run(*arguments, **environment)
        assert (done.code, said in done.err, done.err.count("\n")) == (code, True, 1), done


def test_the_running_platform_says_where_its_api_is(run, api, settings):
    with StateLock(settings.at("run", "supervisor.lock")):
        told = settings.at("run", "status.json")
        told.write_text(json.dumps({"urls": {"dagster": "http://127.0.0.1:1"}}))
        assert "HCP_API=on" in run("list", HCP_API_URL="").err
        told.write_text(json.dumps({"urls": {"api.api": api.base_url}}))
        assert run("list", HCP_API_URL="").code == 0


def test_who_stays_with_a_submission_gets_its_end_as_exit_code(run, settings):
    run("submit", "--idempotency-key", "w")
    with connect(settings, Role.ADMIN) as connection:
        connection.execute(
            "update workloads set status = 'scheduled', queued_at = null, lease_owner = 'x', lease_epoch = 1"
        )
        connection.execute("update workloads set status = 'running'")
        connection.execute("update workloads set status = 'completed'")
    done = run("submit", "--idempotency-key", "w", "--watch", "--json")
    assert done.code == 0
    assert [line.partition("{")[1] for line in of_command(done.out).splitlines()] == ["{", "{"]
