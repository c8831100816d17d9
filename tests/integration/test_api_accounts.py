"""Accounts of the API: logging in and out, keys, who is refused and how soon, and what production refuses to start with."""

import hashlib
import hmac
import inspect
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hcp_pipelines.api import log_ins, service
from hcp_pipelines.api.limits import Limit
from hcp_pipelines.api.routes import auth
from hcp_pipelines.api.routes.accounts import NewUser
from hcp_pipelines.api.tokens import SigningKeys
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.operators import accounts as operators
from hcp_pipelines.operators import users
from hcp_pipelines.operators.api_keys import pepper
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support.api import PASSWORD, running_api


@pytest.fixture
def api(settings):
    with running_api(settings) as running:
        yield running


def refused_within(client, seconds):
    """How long it took until the account was refused."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if client.get("/api/v1/auth/me").status_code == 401:
            return time.monotonic() - began
    return None


def test_a_log_in_opens_what_the_role_may_and_a_log_out_ends_it(api):
    session = api.log_in("viewer").json()
    assert session["role"] == "viewer"
    with api.client(key=session["access_token"]) as own:
        assert own.get("/api/v1/auth/me").json()["name"] == "viewer"
        assert own.get("/api/v1/users").status_code == 403
        assert own.post("/api/v1/auth/logout").status_code == 200
        assert refused_within(own, 1.0) is not None
        refused = own.get("/api/v1/auth/me")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_and_a_disabled_account_are_refused_within_a_second(api):
    with api.client("customer") as own:
        for loose in ({"days": True}, {"days": "1"}):
            assert own.post("/api/v1/auth/keys", json={"name": "batch"} | loose).status_code == 400
        made = own.post("/api/v1/auth/keys", json={"name": "batch", "days": 1})
        assert made.status_code == 201
        key = made.json()
        listed = own.get("/api/v1/auth/keys").json()["items"]
        assert [one["name"] for one in listed] == ["test", "batch"]
        assert "key" not in listed[1]
        with api.client(key=key["key"]) as by_key:
            assert by_key.get("/api/v1/auth/me").json()["tier"] == "pro"
            assert own.delete(f"/api/v1/auth/keys/{key['id']}").status_code == 200
            assert refused_within(by_key, 1.0) is not None
        with api.client("admin") as admin:
            user_id = api.people["customer"].user_id
            assert admin.post(f"/api/v1/users/{user_id}/disable").status_code == 200
            assert admin.post(f"/api/v1/users/{user_id}/disable").status_code == 404
        assert refused_within(own, 1.0) is not None
    assert api.log_in("customer").status_code == 401


def test_nobody_revokes_anothers_key(api):
    with api.client("customer") as own, api.client("other") as other:
        key_id = own.get("/api/v1/auth/keys").json()["items"][0]["id"]
        assert other.delete(f"/api/v1/auth/keys/{key_id}").status_code == 404
        assert own.get("/api/v1/auth/me").status_code == 200


def test_log_ins_are_limited_by_address_and_account_and_an_unknown_name_looks_like_a_wrong_password(api):
    wrong, unknown = api.log_in("viewer", "x" * 20), api.log_in("nobody", "x" * 20)
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["detail"] == unknown.json()["detail"]
    tries = [api.log_in("viewer", "x" * 20) for _ in range(10)]
    assert tries[-1].status_code == 429
    assert int(tries[-1].headers["retry-after"]) > 0
    assert api.log_in("viewer").status_code == 429, "from there the right password waits, too: or guessing would go on"
    assert api.log_in("admin").status_code == 200, "another account does not"
    with connect(api.settings, Role.ADMIN) as connection:
        kept = connection.execute("select count(*) from audit_log where action = 'login.refused'").fetchone()
    assert kept[0] >= 10


def test_who_tries_an_account_from_elsewhere_shuts_it_for_nobody(settings, monkeypatch):
    monkeypatch.setattr(log_ins, "OF_ACCOUNT", Limit(1, 3))
    monkeypatch.setattr(log_ins, "SLOWED_S", 0.5)
    with running_api(settings, api_trusted_proxies="127.0.0.1/32") as api:

        def tried(password, address):
            asked = {"name": "viewer", "password": password}
            with api.client() as nobody:
                return nobody.post("/api/v1/auth/login", json=asked, headers={"X-Forwarded-For": address})

        assert tried(PASSWORD, "192.0.2.1").status_code == 200
        told = [tried("x" * 20, f"198.51.100.{n}").status_code for n in range(4)]
        assert set(told) == {401}, "no address is beyond its own limit; the account is slowed by now"
        told = [tried("x" * 20, "192.0.2.1").status_code for n in range(3)]
        assert set(told) == {401}
        monkeypatch.setattr(log_ins, "SLOWED_S", 5.0)  # which no busy machine takes by itself
        began = time.monotonic()
        assert tried(PASSWORD, "192.0.2.1").status_code == 200
        assert time.monotonic() - began < 5.0, "where it is known it is not even slow"
        began = time.monotonic()
        assert tried(PASSWORD, "203.0.113.1").status_code == 200, "elsewhere it is slow, and never shut"
        assert time.monotonic() - began >= 5.0


def test_who_guesses_keys_is_kept_waiting_and_who_has_one_is_not(api):
    session = api.log_in("admin").json()["access_token"]
    with (
        api.client("viewer") as known,
        api.client(key=session) as logged_in,
        api.client(key="hcp_" + "0" * 12 + "_" + "0" * 32) as guessing,
    ):
        known.get("/api/v1/auth/me")
        with connect(api.settings, Role.ADMIN) as connection:  # what is remembered is forgotten
            connection.execute("update users set session_version = session_version where name = 'other'")
        statuses = [guessing.get("/api/v1/auth/me").status_code for _ in range(80)]
        assert set(statuses) == {401, 429}
        assert known.get("/api/v1/auth/me").status_code == 200, "a key that has opened before is no guess"
        assert logged_in.get("/api/v1/auth/me").status_code == 200, "nor is a token that we have signed"
        assert guessing.get("/api/v1/auth/me").status_code == 429


def test_a_key_with_the_right_prefix_and_another_secret_opens_nothing(api):
    key = api.people["admin"].key
    other = key[:-1] + ("0" if key[-1] != "0" else "1")
    with api.client(key=other) as guessing:
        assert guessing.get("/api/v1/auth/me").status_code == 401


def test_forged_and_ended_tokens_open_nothing(api):
    token = api.log_in("viewer").json()["access_token"]
    head, body, mark = token.split(".")
    unsigned = "eyJhbGciOiJub25lIn0." + body + "."
    for forged in (f"{head}.{body}.{mark[:-2]}xx", unsigned, "x", "a.b.c"):
        with api.client(key=forged) as client:
            assert client.get("/api/v1/auth/me").status_code == 401, forged


def test_another_password_ends_sessions_and_the_old_password(api):
    token = api.log_in("operator").json()["access_token"]
    with api.client(key=token) as own:
        new = {"password": PASSWORD, "new_password": "another long password"}
        assert own.put("/api/v1/auth/password", json=new | {"password": "x" * 20}).status_code == 403
        assert own.put("/api/v1/auth/password", json=new).status_code == 200
        assert refused_within(own, 1.5) is not None
    assert api.log_in("operator").status_code == 401
    assert api.log_in("operator", "another long password").status_code == 200


def test_an_operator_logs_in_with_the_token_of_their_file(api):
    with connect(api.settings, Role.OPERATOR) as connection:
        path = operators.add(api.settings, connection, "ann", operators.OperatorRole.OPERATOR, "test")
        token = path.read_text()
        session = api.log_in("ann", token).json()
        assert session["role"] == "operator"
        with api.client(key=session["access_token"]) as own:
            assert own.get("/api/v1/facilities").status_code == 200
            assert own.post("/api/v1/auth/logout").status_code == 403
            operators.disable(api.settings, connection, "ann", "test")
            assert own.get("/api/v1/facilities").status_code == 401


def test_accounts_and_customers_are_made_once_with_an_idempotency_key(api):
    with api.client("admin") as admin:
        body = {"name": "Acme", "email": "ops@acme.example", "tier": "enterprise"}
        first = admin.post("/api/v1/customers", json=body, headers={"Idempotency-Key": "a"})
        again = admin.post("/api/v1/customers", json=body, headers={"Idempotency-Key": "a"})
        assert first.status_code == again.status_code == 201
        assert first.json() == again.json()
        assert again.headers["idempotent-replayed"] == "true"
        other = admin.post("/api/v1/customers", json=body | {"name": "B"}, headers={"Idempotency-Key": "a"})
        assert other.status_code == 422
        assert admin.post("/api/v1/customers", json=body).status_code == 409, "the address is taken"
        wrong = {"name": "bob", "role": "customer", "password": PASSWORD}
        assert admin.post("/api/v1/users", json=wrong, headers={"Idempotency-Key": "b"}).status_code == 422
        right = wrong | {"customer_id": first.json()["id"]}
        assert admin.post("/api/v1/users", json=right, headers={"Idempotency-Key": "b"}).status_code == 201, (
            "a write that failed frees its key"
        )
        noted = admin.get("/api/v1/audit", params={"action": "user.added", "actor": "admin"}).json()["items"]
        assert [one["subject"] for one in noted] == ["bob"]


def test_of_the_same_write_many_times_at_once_one_is_done(api):
    body = {"name": "Acme", "email": "ops@acme.example", "tier": "pro"}

    def ask(_):
        with api.client("admin") as admin:
            return admin.post("/api/v1/customers", json=body, headers={"Idempotency-Key": "once"})

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(8)))
    assert {reply.status_code for reply in replies} <= {201, 409}
    assert len({reply.json()["id"] for reply in replies if reply.status_code == 201}) == 1
    assert all(reply.headers["retry-after"] for reply in replies if reply.status_code == 409)
    assert ask(0).headers["idempotent-replayed"] == "true"


def test_nobody_gets_the_reply_of_anothers_key(api):
    body = {"name": "Acme", "email": "ops@acme.example", "tier": "pro"}
    with connect(api.settings, Role.API) as connection:
        users.add_user(connection, "root2", users.UserRole.ADMIN, PASSWORD, "test")
    with api.client("admin") as one, api.client(key=api.log_in("root2").json()["access_token"]) as two:
        key = {"Idempotency-Key": "same"}
        assert one.post("/api/v1/customers", json=body, headers=key).status_code == 201
        assert two.post("/api/v1/customers", json=body, headers=key).status_code == 409, (
            "done anew, and the address is taken"
        )


UNKEEPABLE = """
    create function refuse_to_keep() returns trigger language plpgsql as $$
        begin raise exception 'no room' using errcode = 'disk_full'; end $$;
    create trigger unkeepable before update on idempotent_replies for each row execute function refuse_to_keep()"""


def test_a_write_whose_reply_cannot_be_kept_is_not_done_and_frees_its_key(api):
    body = {"name": "Acme", "email": "ops@acme.example", "tier": "pro"}
    with connect(api.settings, Role.ADMIN) as connection, api.client("admin") as admin:
        connection.execute(UNKEEPABLE)
        failed = admin.post("/api/v1/customers", json=body, headers={"Idempotency-Key": "a"})
        assert (failed.status_code, failed.headers["retry-after"]) == (503, "2")
        found = connection.execute("select count(*) from customers where email = %s", (body["email"],)).fetchone()
        assert found == (0,)
        connection.execute("drop trigger unkeepable on idempotent_replies")
        assert admin.post("/api/v1/customers", json=body, headers={"Idempotency-Key": "a"}).status_code == 201


def test_while_the_first_is_at_work_the_second_is_told_when_to_come_back(api):
    body = {"name": "Acme", "email": "ops@acme.example", "tier": "pro"}
    with connect(api.settings, Role.ADMIN) as connection, api.client("admin") as admin:
        account = f"user/{api.people['admin'].user_id}"
        with connection.transaction():
            connection.execute(
                "insert into idempotent_replies (owner, key, request_digest) values (%s, 'a', %s)", (account, bytes(32))
            )
            waiting = admin.post("/api/v1/customers", json=body, headers={"Idempotency-Key": "a"})
            assert (waiting.status_code, waiting.headers["retry-after"]) == (409, "1")


def test_what_is_kept_of_a_request_tells_nothing_of_its_password(api):
    body = {"name": "new", "role": "viewer", "password": "a long password 1"}
    with connect(api.settings, Role.ADMIN) as connection, api.client("admin") as admin:
        assert admin.post("/api/v1/users", json=body, headers={"Idempotency-Key": "a"}).status_code == 201
        row = connection.execute("select request_digest from idempotent_replies").fetchone()
    said = "NewUser " + NewUser.model_validate(body).model_dump_json()
    assert bytes(row[0]) != hashlib.sha256(said.encode()).digest()
    assert bytes(row[0]) == hmac.digest(pepper(api.settings), said.encode(), hashlib.sha256)
    assert not any("idempotency" in name.lower() for name in inspect.signature(auth.log_in).parameters)
    assert not any("idempotency" in name.lower() for name in inspect.signature(auth.change_password).parameters)


def test_a_key_of_a_key_ends_with_it_and_lives_no_longer(api):
    with api.client("customer") as own:
        parent = own.post("/api/v1/auth/keys", json={"name": "parent", "days": 2}).json()
        with api.client(key=parent["key"]) as by_parent:
            refused = by_parent.post("/api/v1/auth/keys", json={"name": "longer", "days": 3})
            assert refused.status_code == 403
            assert "outlives" in refused.json()["detail"]
            child = by_parent.post("/api/v1/auth/keys", json={"name": "child"}).json()
            assert child["expires_at"] == parent["expires_at"], "asked for no end, it has its parent's"
            assert child["parent_id"] == parent["id"]
        with api.client(key=child["key"]) as by_child:
            grandchild = by_child.post("/api/v1/auth/keys", json={"name": "grandchild", "days": 1}).json()
        with api.client(key=grandchild["key"]) as by_grandchild:
            assert by_grandchild.get("/api/v1/auth/me").status_code == 200
            assert own.delete(f"/api/v1/auth/keys/{parent['id']}").status_code == 200
            assert refused_within(by_grandchild, 1.0) is not None
        assert own.get("/api/v1/auth/me").status_code == 200, "the key that made the parent goes on"
        revoked = [one["name"] for one in own.get("/api/v1/auth/keys").json()["items"] if one["revoked_at"]]
    assert sorted(revoked) == ["child", "grandchild", "parent"]


def test_another_password_revokes_all_keys_where_that_is_asked_for(api):
    token = api.log_in("viewer").json()["access_token"]
    new = {"password": PASSWORD, "new_password": "another long password"}
    with api.client(key=token) as own, api.client("viewer") as by_key:
        assert own.put("/api/v1/auth/password", json=new).status_code == 200
        assert by_key.get("/api/v1/auth/me").status_code == 200, "unasked, programs go on"
        back = {"password": new["new_password"], "new_password": PASSWORD, "revoke_keys": True}
        assert by_key.put("/api/v1/auth/password", json=back).status_code == 200
        assert refused_within(by_key, 1.0) is not None


def test_when_postgres_has_dropped_all_connections_requests_are_soon_answered_again(api):
    with api.client("viewer") as client, connect(api.settings, Role.ADMIN) as connection:
        dropped = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hcp_api'"
        for _ in range(3):
            assert connection.execute(dropped).fetchall()
            began, statuses = time.monotonic(), []
            while statuses[-3:] != [200, 200, 200]:
                reply = client.get("/api/v1/facilities")
                statuses.append(reply.status_code)
                assert reply.status_code == 200 or reply.headers["retry-after"]
                assert time.monotonic() < began + 60, statuses
            assert set(statuses) <= {200, 503}


def test_the_first_admin_is_made_once_and_production_refuses_its_password(settings):
    with connect(settings, Role.API) as connection:
        password = users.add_first_admin(connection, "test")
        assert len(password) >= 20
        assert users.add_first_admin(connection, "test") is None
        with pytest.raises(ConfigError, match="admin still has a generated password"):
            service.refuse_generated_password(connection)
        users.set_password(connection, users.user_id_of(connection, "admin"), "a password of one's own", "test")
        service.refuse_generated_password(connection)


@pytest.mark.parametrize(("name", "load"), [("api_signing_keys", SigningKeys.load), ("api_keys_pepper", pepper)])
def test_secrets_that_others_may_read_that_are_links_or_too_short_are_refused(settings, tmp_path, name, load):
    own = settings.model_copy(update={"state_dir": tmp_path, "secrets_dir": None})
    load(own)
    path = tmp_path / "secrets" / name
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read"):
        load(own)
    path.chmod(0o600)
    load(own)
    kept = path.read_text()
    path.write_text(kept[:-40])
    with pytest.raises(ConfigError, match=name):
        load(own)
    path.write_text(kept)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no link"):
        load(own)


def test_pages_of_a_named_origin_may_call_and_others_may_not(settings):
    with running_api(settings, api_cors_origins="https://portal.example") as api, api.client("viewer") as client:
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        allowed = client.options("/api/v1/facilities", headers=asked | {"Origin": "https://portal.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://portal.example"
        other = client.options("/api/v1/facilities", headers=asked | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        reply = client.get("/api/v1/facilities", headers={"Origin": "https://portal.example"})
        assert "RateLimit-Remaining" in reply.headers["access-control-expose-headers"]
