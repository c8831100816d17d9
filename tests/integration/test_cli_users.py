"""`hcp user`, and the account that `hcp up` makes: the API's people, made where the state directory is."""

import json
import re
import sys

import pytest

from hcp_pipelines.operators import users
from hcp_pipelines.operators.accounts import OperatorRole, add
from hcp_pipelines.operators.passwords import is_right
from hcp_pipelines.storage.secrets import secrets_dir
from hcp_pipelines.supervisor.platform import Platform
from tests.support.cli import hcp

__all__ = ["hcp"]


@pytest.fixture
def run(hcp, settings):
    return lambda *arguments, **environment: hcp(*arguments, "--state-dir", settings.state_dir, **environment)


@pytest.fixture
def may(settings, database, run):
    """A command as an operator of some role: `may("admin", …)`."""
    for role in OperatorRole:
        add(settings, database, f"op-{role}", role, "test")
    return lambda role, *arguments: run(*arguments, HCP_OPERATOR=f"op-{role}")


def test_a_customer_has_its_own_quota_until_it_has_its_tiers_again(run, may, database):
    run("user", "add", "ann", "--role", "customer", "--customer", "ann@example.com", "--tier", "free")
    for by, code, said in (("", 2, "who orders this"), ("op-viewer", 1, "takes an operator or an admin")):
        refused = run("user", "quota", "ann@example.com", "--gpus", "0", HCP_OPERATOR=by)
        assert (refused.code, said in refused.err) == (code, True), refused.err
    assert database.execute("select count(*) from customer_quotas").fetchone() == (0,)
    shown = may(
        "operator", "user", "quota", "ann@example.com", "--gpus", "8", "--waiting", "2", "--weight", "0.5", "--refuse", "unpaid"
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert "Nothing more is taken of it: unpaid" in shown.out
    row = "select max_gpus, max_waiting, max_retries, weight, refused_because from customer_quotas"
    assert database.execute(row).fetchall() == [(8, 2, None, 0.5, "unpaid")]
    told = json.loads(
        may("admin", "user", "quota", "ann@example.com", "--gpus", "tier", "--take", "--tier", "pro", "--json").out
    )
    assert (told["tier"], told["own"]["max_gpus"], told["own"]["max_waiting"], told["refused_because"]) == (
        "pro",
        None,
        2,
        "",
    )
    assert told["of_tier"]["max_gpus"] == 8192
    noted = "select actor, detail from audit_log where action = 'customer.quota_set' order by id"
    assert [(actor, sorted(detail)) for actor, detail in database.execute(noted).fetchall()] == [
        ("op-operator", ["max_gpus", "max_waiting", "refused_because", "weight"]),
        ("op-admin", ["max_gpus", "refused_because", "tier"]),
    ]
    assert database.execute("select updated_by from customer_quotas").fetchall() == [("op-admin",)]
    for wrong in (
        ["--gpus", "-1"],
        ["--gpus", "few"],
        ["--weight", "nan"],
        ["--refuse", " "],
        ["--refuse", "x", "--take"],
    ):
        assert run("user", "quota", "ann@example.com", *wrong).code == 2, wrong
    assert run("user", "quota", "nobody@example.com").code == 2
    assert run("user", "quota", "9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a").code == 2
    assert may("admin", "user", "quota", "9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a", "--gpus", "1").code == 2


def test_what_a_tier_may_have_and_how_often_it_may_ask_is_shown_and_set(run, may, database):
    shown = run("user", "limits")
    assert [tier in shown.out for tier in ("anonymous", "free", "pro", "enterprise", "staff")] == [True] * 5
    before = database.execute("select * from tier_quotas order by tier").fetchall()
    for by, code in (("", 2), ("op-viewer", 1), ("op-operator", 1)):
        assert run("user", "limits", "free", "--gpus", "0", HCP_OPERATOR=by).code == code, by
    assert database.execute("select * from tier_quotas order by tier").fetchall() == before
    done = may(
        "admin", "user", "limits", "free", "--gpus", "16", "--credit", "0.05", "--requests", "240", "--burst", "90"
    )
    assert done.code == 0, done.err
    assert database.execute("select max_gpus, credit_fraction from tier_quotas where tier = 'free'").fetchall() == [
        (16, 0.05)
    ]
    assert database.execute("select per_minute, burst from request_limits where tier = 'free'").fetchall() == [
        (240, 90)
    ]
    [staff] = json.loads(may("admin", "user", "limits", "staff", "--requests", "5000", "--json").out)["tiers"]
    assert (staff["per_minute"], staff["max_gpus"]) == (5000, None)
    noted = database.execute("select actor, action from audit_log where action like 'tier.limits_set%' order by id")
    assert noted.fetchall() == [
        ("op-viewer", "tier.limits_set.refused"),
        ("op-operator", "tier.limits_set.refused"),
        *[("op-admin", "tier.limits_set")] * 2,
    ]
    for wrong in (["--gpus", "1"], ["staff", "--gpus", "1"], ["free", "--requests", "0"], ["gold"]):
        assert run("user", "limits", *wrong).code == 2, wrong


def kept(database, name):
    return database.execute(
        "select password_hash, is_password_generated, session_version, disabled_at from users where name = %s", (name,)
    ).fetchone()


def test_an_account_is_made_with_a_password_that_is_shown_once(run, database):
    done = run("user", "add", "ann", "--role", "operator")
    shown = re.search(r"shown this once: (\S+)", done.out)[1]
    assert is_right(kept(database, "ann")[0], shown)
    assert kept(database, "ann")[1] is True
    assert shown not in run("user", "list").out
    assert "password generated" in run("user", "list").out
    again = run("user", "add", "ann", "--role", "viewer")
    assert (again.code, "exists already" in again.err) == (2, True)


def test_a_password_from_a_file_ends_sessions_and_counts_as_ones_own(run, database, tmp_path):
    run("user", "add", "ann", "--role", "operator")
    file = tmp_path / "password"
    file.write_text("a password of one's own\n")
    assert run("user", "password", "ann", "--password-file", file).out == "ann: changed\n"
    password_hash, is_generated, version, _ = kept(database, "ann")
    assert is_right(password_hash, "a password of one's own")
    assert (is_generated, version) == (False, 2)
    file.write_text("short")
    assert run("user", "password", "ann", "--password-file", file).code == 2
    assert run("user", "disable", "ann").code == 0
    assert kept(database, "ann")[3] is not None
    assert run("user", "disable", "nobody").code == 2


def test_a_customers_account_needs_its_customer(run, database):
    assert run("user", "add", "c", "--role", "customer").code == 2
    assert run("user", "add", "c", "--role", "customer", "--customer", "ops@acme.example").code == 2
    assert run("user", "add", "c", "--role", "customer", "--customer", "ops@acme.example", "--tier", "pro").code == 0
    assert run("user", "add", "d", "--role", "customer", "--customer", "ops@acme.example").code == 0
    tiers = database.execute("select c.tier from users u join customers c on c.id = u.customer_id order by u.name")
    assert tiers.fetchall() == [("pro",), ("pro",)]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_first_admins_password_is_told_to_a_terminal_or_kept_in_a_file_never_in_a_log(
    settings, database, monkeypatch, is_terminal
):
    told = []
    file = secrets_dir(settings) / "api_admin_password"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    platform = Platform(settings.model_copy(update={"api": "on"}), report=told.append)
    platform._open_api()
    platform._open_api()  # at the next start
    ((words),) = told
    try:
        password = re.search(r"password (\S+) \(", words)[1] if is_terminal else file.read_text()
        assert is_right(kept(database, users.FIRST_ADMIN)[0], password)
        assert file.exists() != is_terminal
        assert is_terminal or password not in words
        assert is_terminal or file.stat().st_mode & 0o077 == 0
    finally:
        file.unlink(missing_ok=True)


def test_without_the_api_there_is_no_account(settings, database):
    Platform(settings)._open_api()
    assert database.execute("select count(*) from users").fetchone() == (0,)
