"""Any JSON at all in any place of a request: every dialect answers, and no answer is an accident."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulators.addresses import address_of
from simulators.miners import (
    antminer,
    antminer_web,
    luxos,
    luxos_write,
    whatsminer,
    whatsminer_v3,
    whatsminer_v3_write,
    whatsminer_write,
)
from simulators.miners.md5crypt import md5crypt
from simulators.miners.web import Request
from tests.support.miners import FULL, Hall

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SLOT = {"stock": 0, "whatsminer": 16, "whatsminer-v3": 32, "luxos": 48}
WORDS = [
    "version",
    "summary",
    "stats",
    "pools",
    "devs",
    "get_token",
    "status",
    "config",
    "profiles",
    "logon",
    "curtail",
    "stats+devs",
]
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, *SLOT) as hall:
        for slot in SLOT.values():
            hall.set(slot, FULL)
        yield hall


def miner(hall, name):
    return hall.server.desk.hall.at(address_of(0, SLOT[name]))


COMMANDS = st.sampled_from(WORDS) | st.text(max_size=12) | VALUES
REQUESTS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("parameter", "new_api", "param", "enc", "data", "token"), VALUES)
)


@FUZZ
@given(command=COMMANDS, rest=REQUESTS)
async def test_4028(hall, command, rest):
    for name, module in [
        ("stock", antminer),
        ("whatsminer", whatsminer),
        ("whatsminer-v3", whatsminer),
        ("luxos", luxos),
    ]:
        for key in ("command", "cmd"):
            assert module.answer(miner(hall, name), {key: command} | rest).body


@FUZZ
@given(command=st.sampled_from(sorted(whatsminer_write._COMMANDS)), rest=st.dictionaries(
    st.sampled_from(["percent", "power_limit", "param", "pool1", "worker1", "passwd1", "pool2", "color"]), VALUES))  # fmt: skip
async def test_writes_of_api_2(hall, command, rest):
    one = miner(hall, "whatsminer")
    said = whatsminer_write.get_token(one)["Msg"]
    key = md5crypt("admin", said["salt"])
    text = json.dumps({"cmd": command, "token": md5crypt(key + said["time"], said["newsalt"])} | rest).encode()
    cipher = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.ECB())
    sealed = base64.b64encode(cipher.encryptor().update(text + b"\0" * (-len(text) % 16))).decode()
    reply = json.loads(whatsminer.answer(one, {"enc": 1, "data": sealed}).body)
    value = json.loads(cipher.decryptor().update(base64.b64decode(reply["enc"])).rstrip(b"\0"))
    assert value["Code"] in {131, 132}


@FUZZ
@given(
    command=st.sampled_from(sorted(whatsminer_v3_write.WRITES)) | st.sampled_from(sorted(whatsminer_v3._READS)),
    param=VALUES,
)
async def test_api_3(hall, command, param):
    one = miner(hall, "whatsminer-v3")
    secret = hashlib.sha256(f"{command}super{one.identity.salt}7".encode()).digest()
    token = base64.b64encode(secret).decode()[:8]
    reply = whatsminer_v3.answer(one, {"cmd": command, "param": param, "ts": 7, "account": "super", "token": token})
    assert reply["code"] in {0, -1, -2, -3}
    assert json.dumps(reply)


@FUZZ
@given(command=st.sampled_from(sorted(luxos_write.SESSION_COMMANDS)), items=st.lists(st.text(max_size=8), max_size=4))
async def test_luxos_commands(hall, command, items):
    one = miner(hall, "luxos")
    luxos_write.act(one, "kill", "")
    session = luxos_write.act(one, "logon", "")["SESSION"][0]["SessionID"]
    needs = luxos_write.SESSION_COMMANDS[command][0]
    reply = luxos.answer(one, {"command": command, "parameter": ",".join([session, *items] if needs else items)})
    assert json.loads(reply.body[:-1])["STATUS"][0]["STATUS"] in {"S", "E"}


@FUZZ
@given(page=st.sampled_from(sorted(antminer_web._PAGES)), body=VALUES | st.dictionaries(
    st.sampled_from(["miner-mode", "bitmain-work-mode", "pools", "blink", "bitmain-fan-pwm"]), VALUES | st.lists(
        st.dictionaries(st.sampled_from(["url", "user", "pass"]), VALUES), max_size=4)))  # fmt: skip
async def test_pages(hall, page, body):
    request = Request("POST", f"/cgi-bin/{page}.cgi", {}, json.dumps(body).encode())
    reply = antminer_web._PAGES[page](miner(hall, "stock"), request)
    assert reply.status in {200, 404}
    assert reply.status == 404 or json.loads(reply.body)


async def test_many_joined_commands_cost_what_some_cost(hall):
    names = "+".join(f"a{n}" for n in range(8000))
    assert len(antminer.answer(miner(hall, "stock"), {"command": names}).body) < 10_000
    assert len(json.loads(luxos.answer(miner(hall, "luxos"), {"command": "+".join(["stats"] * 9000)}).body[:-1])) == 2


async def test_reading_a_miner_keeps_nothing_of_it(hall):
    for command in ("version", "summary", "stats", "pools"):
        for slot in range(64):
            one = hall.server.desk.hall.at(address_of(0, slot))
            if one is not None:
                antminer.answer(one, {"command": command})
    assert hall.server.desk.hall.remembered == 0
    luxos.answer(miner(hall, "luxos"), {"command": "logon"})
    assert hall.server.desk.hall.remembered == 1
