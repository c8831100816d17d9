"""What `hcp` says where something is missing or wrong: the thing, the value, the limit, the next step; and its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hcp_pipelines.runtime.files import folder_id
from hcp_pipelines.supervisor.scenarios import FOLDER
from simulators.scenarios import scenario_names
from tests.support.cli import hcp

__all__ = ["hcp"]

ROOT = Path(__file__).resolve().parents[2]


def test_status_where_nothing_runs(hcp, tmp_path):
    done = hcp("status", "--state-dir", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert str(tmp_path) in done.err
    assert "hcp up" in done.err
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"


def test_status_as_json_where_nothing_runs(hcp, tmp_path):
    done = hcp("status", "--json", "--state-dir", tmp_path)
    assert done.code == 1
    said = json.loads(done.out)
    assert (said["healthy"], said["processes"]) == (False, [])
    assert "hcp up" in said["error"]


@pytest.mark.parametrize("how", [["--scenario", "winter-strom"], ["--detach", "--scenario", "winter-strom"]])
def test_up_with_an_unknown_scenario_starts_nothing_and_leaves_nothing(hcp, tmp_path, how):
    done = hcp("up", *how, "--state-dir", tmp_path / "state")
    assert (done.code, done.out) == (2, "")
    assert (
        "scenario 'winter-strom' is unknown; did you mean winter-storm? there are bad-data, btc-crash, calm, "
        in done.err
    )
    assert list(tmp_path.iterdir()) == []


def test_the_names_of_scenarios_are_those_of_the_world():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == scenario_names()


def test_the_state_directory_may_stand_before_the_command_or_in_the_environment(hcp, tmp_path):
    assert str(tmp_path) in hcp("--state-dir", tmp_path, "status").err
    assert str(tmp_path) in hcp("status", HCP_STATE_DIR=str(tmp_path)).err


@pytest.mark.parametrize(
    "command",
    [["sql", "select 1"], ["policy", "show"], ["facility", "list"], ["facility", "export", "hou-1"], ["down"]],
)
def test_commands_that_need_a_platform_say_so(hcp, tmp_path, command):
    done = hcp(*command, "--state-dir", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert str(tmp_path) in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", [["sql", "select 1"], ["policy", "show"], ["preview", "policy", "1"]])
def test_a_platform_that_has_stopped_is_told_from_one_that_never_was(hcp, postgres, tmp_path, command):
    state = tmp_path / "state"
    (state / "run").mkdir(parents=True)
    (state / "secrets").symlink_to(postgres.at("secrets"))
    record = {"socket_dir": str(tmp_path), "port": 5432, "folder": folder_id(state / "run")}
    (state / "run" / "postgres.json").write_text(json.dumps(record))
    done = hcp(*command, "--state-dir", state)
    assert (done.code, done.out) == (1, "")
    assert "No server answers there" in done.err
    assert "hcp up" in done.err
    assert "password=" not in done.err.replace("password=…", "")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HCP_DEVICE", "5", "HCP_DEVICE is not a setting of HCP. Did you mean HCP_DEVICES?"),
        ("HCP_CLOCKSPEED", "5", "Did you mean HCP_CLOCK_SPEED?"),
        ("HCP_XYZZY", "5", "HCP_XYZZY is not a setting of HCP. docs/settings.md lists them all."),
        ("HCP_DEVICES", "many", "HCP_DEVICES='many'"),
        ("HCP_DEVICES", "2", "greater than or equal to 3"),
        ("HCP_CLOCK_SPEED", "1e9", "less than or equal to 3600"),
        ("HCP_WORLD", "mars", "use sim, replay:DIR or real"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_limit(hcp, tmp_path, name, value, words):
    done = hcp("status", "--state-dir", tmp_path, **{name: value})
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "docs/settings.md" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense"]),
        (["bench", "nonsense"], ["nonsense", "policy-refresh", "all"]),
        (["bench"], ["NAME"]),
        (["sql"], ["QUERY"]),
        (["facility", "apply"], ["FILES"]),
        (["up", "--devices", "2"], ["2", "greater than or equal to 3"]),
        (["up", "--speed", "fast"], ["--speed", "fast"]),
        (["up", "--from", "tomorrow"], ["--from", "tomorrow", "2024-08-20"]),
        (["status", "--state-dir", __file__], [__file__, "is a file"]),
    ],
)
def test_wrong_usage(hcp, arguments, words):
    done = hcp(*arguments)
    assert done.code == 2
    assert [word for word in words if word not in done.err] == []
    assert "Traceback" not in done.err


def test_a_traceback_only_where_it_is_asked_for(hcp, tmp_path):
    assert "Traceback" not in hcp("policy", "show", "--state-dir", tmp_path).err
    done = hcp("--debug", "policy", "show", "--state-dir", tmp_path)
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.startswith("hcp: ")


def test_the_installed_command_is_this_one(tmp_path):
    argv = [Path(sys.executable).with_name("hcp"), "status", "--state-dir", tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "hcp up" in done.stderr
