"""WhatsMiners beyond what pyasic does: tokens, envelopes, API 3, and how firmware versions write their replies.

Keys are made with passlib, envelopes with cryptography, both apart from the simulator's own.
"""

import base64
import hashlib
import json
import struct
import warnings

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from simulators.addresses import address_of
from tests.support.miners import ECO, FULL, OFF, PYASIC_WARNINGS, Hall, talk, within

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="'crypt' is deprecated", category=DeprecationWarning)
    from passlib.hash import md5_crypt

pytestmark = PYASIC_WARNINGS


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, "whatsminer", "whatsminer-v3") as hall:
        for slot in (0, 16):
            hall.set(slot, FULL)
        yield hall


async def ask(hall, slot, command, **more):
    return await talk(address_of(0, slot), hall.port(4028), json.dumps({"command": command} | more).encode())


class Writer:
    """A client of API 2's writes."""

    def __init__(self, hall, slot, password="admin") -> None:
        self._hall, self._slot, self._password = hall, slot, password

    async def token(self):
        reply = json.loads(await ask(self._hall, self._slot, "get_token"))
        assert reply["Code"] == 134
        said = reply["Msg"]
        self._key = _crypt(self._password, said["salt"])
        self.sign = _crypt(self._key + said["time"], said["newsalt"])
        return self

    async def write(self, command, name="cmd", **more):
        text = json.dumps({name: command, "token": self.sign} | more).encode()
        sealed = self._cipher().encryptor().update(text + b"\0" * (-len(text) % 16))
        reply = await self.send({"enc": 1, "data": base64.b64encode(sealed).decode()})
        if not reply:
            return None
        value = json.loads(reply)
        if "enc" not in value:
            return value
        return json.loads(self._cipher().decryptor().update(base64.b64decode(value["enc"])).rstrip(b"\0"))

    async def send(self, envelope):
        return await talk(address_of(0, self._slot), self._hall.port(4028), json.dumps(envelope).encode())

    def _cipher(self):
        return Cipher(algorithms.AES(hashlib.sha256(self._key.encode()).digest()), modes.ECB())


def _crypt(text, salt):
    return md5_crypt.using(salt=salt).hash(text).split("$")[3]


@pytest.mark.parametrize("name", ["cmd", "command"])
async def test_a_write_with_a_token(hall, name):
    writer = await Writer(hall, 0).token()
    reply = await writer.write("power_off", name, respbefore="true")
    assert (reply["STATUS"], reply["Code"], reply["Msg"]) == ("S", 131, "API command OK")
    hall.pass_s(300)
    assert hall.truth(0).state == OFF
    assert (await writer.write("set_low_power", name))["Code"] == 131
    assert hall.truth(0).state == OFF, "a mode is taken at the next wake"
    assert (await writer.write("power_on", name))["Code"] == 131
    assert hall.truth(0).state == ECO


async def test_what_a_write_can_lack(hall):
    writer = await Writer(hall, 0).token()
    right = writer.sign
    for sign, code in [("wrong", 135), (None, 135), (right, 131)]:
        writer.sign = sign
        assert (await writer.write("power_off"))["Code"] == code
    hall.pass_s(1801)
    assert (await writer.write("power_on"))["Code"] == 135, "a token lives half an hour"
    wrong = await Writer(hall, 0, "password").token()
    assert (await wrong.write("power_on"))["Code"] == 23
    for envelope in ({"enc": 1}, {"enc": 1, "data": "?"}, {"enc": 1, "data": 7}, {"enc": 1, "data": "QUJD"}):
        assert json.loads(await writer.send(envelope))["Code"] == 23
    plain = json.loads(await ask(hall, 0, "power_on", token=right))
    assert plain["Code"] == 14, "writes are not taken in the open"
    await writer.token()
    assert (await writer.write("no_such_thing"))["Code"] == 14
    assert (await writer.write("set_high_power"))["Code"] == 132
    assert (await writer.write("set_power_pct", percent="200"))["Code"] == 132
    assert hall.truth(0).state == OFF


async def test_a_token_is_good_for_32_uses(hall):
    writer = await Writer(hall, 0).token()
    codes = [(await writer.write("set_led", param="auto"))["Code"] for _ in range(33)]
    assert codes == [131] * 32 + [136]
    await writer.token()
    assert (await writer.write("set_led", param="auto"))["Code"] == 131


async def test_tokens_are_bounded(hall):
    first = await Writer(hall, 0).token()
    for _ in range(16):
        last = await Writer(hall, 0).token()
    assert (await first.write("set_led", param="auto"))["Code"] == 135
    assert (await last.write("set_led", param="auto"))["Code"] == 131


async def test_percent_and_limit_hold(hall):
    writer = await Writer(hall, 0).token()
    assert (await writer.write("set_power_pct", percent="90"))["Code"] == 131
    hall.pass_s(300)
    assert hall.truth(0).power_w == pytest.approx(0.9 * 3441, rel=1e-3)
    assert (await writer.write("adjust_power_limit", power_limit="99999"))["Code"] == 131
    hall.pass_s(300)
    assert hall.truth(0).power_w > 3350
    status = json.loads(await ask(hall, 0, "status"))["Msg"]
    assert (status["power_limit_set"], status["mineroff"]) == ("", "false")


async def test_a_power_limit_outlasts_a_reboot_and_a_percentage_too(hall):
    for command, figures, watts in (
        ("adjust_power_limit", {"power_limit": "3000"}, 3000),
        ("set_power_pct", {"percent": "90"}, 0.9 * 3441),
    ):
        writer = await Writer(hall, 0).token()
        assert (await writer.write(command, **figures))["Code"] == 131
        assert (await writer.write("reboot"))["Code"] == 131
        hall.pass_s(20)
        assert hall.truth(0).power_w < 100
        hall.pass_s(600)
        assert hall.truth(0).power_w == pytest.approx(watts, rel=1e-3), command


async def test_a_whatsminer_that_sleeps_mines_after_a_reboot(hall):
    writer = await Writer(hall, 0).token()
    for _ in range(2):
        assert (await writer.write("power_off", respbefore="true"))["Code"] == 131
        hall.pass_s(300)
        assert hall.truth(0).power_w == 25.0
        assert (await writer.write("reboot"))["Code"] == 131
        hall.pass_s(600)
        assert (hall.truth(0).state, hall.truth(0).power_w > 3300) == (FULL, True)
        writer = await Writer(hall, 0).token()


async def test_pools_of_api_2(hall):
    writer = await Writer(hall, 0).token()
    await writer.write("update_pools", pool1="stratum+tcp://x.invalid:1", worker1="w", passwd1="p")
    rows = json.loads(await ask(hall, 0, "pools"))["POOLS"]
    assert [(row["POOL"], row["URL"], row["User"]) for row in rows] == [(1, "stratum+tcp://x.invalid:1", "w")]
    assert (await writer.write("update_pools", pool1=7))["Code"] == 132
    await writer.write("update_pools", pool1="", worker1="", passwd1="")
    hall.pass_s(300)
    assert hall.truth(0).hashrate_th_per_s == 0
    assert json.loads(await ask(hall, 0, "pools"))["POOLS"] == []


async def test_joined_and_single_reads_agree(hall):
    joined = json.loads(await ask(hall, 0, "summary+devs+pools"))
    for name, rows in [("summary", "SUMMARY"), ("devs", "DEVS"), ("pools", "POOLS")]:
        assert joined[name][0][rows] == json.loads(await ask(hall, 0, name))[rows]
    row = joined["summary"][0]["SUMMARY"][0]
    assert sum(dev["MHS 1m"] for dev in joined["devs"][0]["DEVS"]) == pytest.approx(row["MHS 1m"], abs=0.1)
    assert row["HS RT"] == row["MHS 1m"]
    assert json.loads(await ask(hall, 0, "get_psu"))["Msg"]["pin"] == str(row["Power"])


# Versions.


async def test_version_1_when_it_sleeps(tmp_path):
    async with Hall(tmp_path, "whatsminer@1") as hall:
        hall.set(0, FULL)
        assert json.loads(await ask(hall, 0, "status"))["Msg"]["btmineroff"] == "false"
        assert json.loads(await ask(hall, 0, "summary"))["SUMMARY"][0]["Firmware Version"] == "'20210322.22.REL'"
        miner = await hall.miner(0)
        assert await within(miner.is_mining()) is True
        assert await within(miner.stop_mining()) is True
        hall.pass_s(300)
        assert json.loads(await ask(hall, 0, "devdetails"))["Code"] == 14
        assert await hall.miner(0) is None, "pyasic asks for nothing else: docs/protocols.md"
        assert await within(miner.is_mining()) is False
        hall.break_(0, "fan_failure")
        assert json.loads(await ask(hall, 0, "get_error_code"))["Msg"] == {"error_code": [110]}
        writer = await Writer(hall, 0).token()
        assert await writer.write("reboot") is None, "the connection drops before a reply"


async def test_version_2_0_4_lists_errors_like_a_dict(tmp_path):
    async with Hall(tmp_path, "whatsminer@2.0.4") as hall:
        hall.set(0, FULL)
        assert json.loads(await ask(hall, 0, "get_error_code"))["Msg"] == {"error_code": []}
        hall.break_(0, "fan_failure", "board_dropout")
        hall.mend(0, "fan_failure")
        hall.pass_s(60)
        raw = await ask(hall, 0, "get_error_code")
        with pytest.raises(json.JSONDecodeError):
            json.loads(raw)
        assert b'"error_code":["53' in raw
        data = await within((await hall.miner(0)).get_data())
        assert {error.error_code for error in data.errors} <= {530, 531, 532}
        assert data.errors


async def test_january_2023_needs_mending(tmp_path):
    async with Hall(tmp_path, "whatsminer@2023-01") as hall:
        hall.set(0, FULL)
        for command in ("get_psu", "status", "get_miner_info"):
            with pytest.raises(json.JSONDecodeError):
                json.loads(await ask(hall, 0, command))
        assert b'""temp0"' in await ask(hall, 0, "get_psu")
        assert b"\n" in await ask(hall, 0, "summary")
        data = await within((await hall.miner(0)).get_data())
        assert float(data.hashrate) == pytest.approx(hall.truth(0).hashrate_th_per_s, rel=1e-3)
        assert data.fan_psu == 6720


async def test_a_version_without_the_minutes_rate(tmp_path):
    async with Hall(tmp_path, "whatsminer@sparse") as hall:
        hall.set(0, FULL)
        row = json.loads(await ask(hall, 0, "summary"))["SUMMARY"][0]
        assert not {"MHS 1m", "Power_RT", "Power Fanspeed"} & set(row)
        data = await within((await hall.miner(0)).get_data())
        assert not data.hashrate
        hall.set(0, OFF)
        assert json.loads(await ask(hall, 0, "summary"))["SUMMARY"][0]["Power"] == -1
        assert (await within((await hall.miner(0)).get_data())).wattage is None


async def test_a_stuck_whatsminer_shows_its_power(hall):
    hall.break_(0, "stuck")
    writer = await Writer(hall, 0).token()
    assert (await writer.write("power_off"))["Code"] == 131
    hall.pass_s(300)
    assert json.loads(await ask(hall, 0, "status"))["Msg"]["mineroff"] == "true"
    assert json.loads(await ask(hall, 0, "summary"))["SUMMARY"][0]["Power"] == round(hall.truth(0).power_w) > 3300


# API 3.


async def call(hall, command, param=None, slot=16, **more):
    text = json.dumps({"cmd": command, "param": param} | more).encode()
    reply = await talk(address_of(0, slot), hall.port(4433), struct.pack("<I", len(text)) + text, close=True)
    assert len(reply) == 4 + int.from_bytes(reply[:4], "little")
    return json.loads(reply[4:])


async def change(hall, command, param=None, password="super", account="super", stamp=1_700_000_000):
    salt = (await call(hall, "get.device.info", "salt"))["msg"]["salt"]
    secret = hashlib.sha256(f"{command}{password}{salt}{stamp}".encode()).digest()
    if command == "set.miner.pools":
        text = json.dumps(param).encode()
        sealed = Cipher(algorithms.AES(secret), modes.ECB()).encryptor().update(text + b"\0" * (-len(text) % 16))
        param = base64.b64encode(sealed).decode()
    token = base64.b64encode(secret).decode()[:8]
    return await call(hall, command, param, ts=stamp, account=account, token=token)


async def test_reads_of_api_3(hall):
    info = (await call(hall, "get.device.info"))["msg"]
    assert set(info) == {"network", "miner", "system", "power", "salt", "error-code"}
    assert (await call(hall, "get.device.info", "network"))["msg"] == {"network": info["network"]}
    assert (await call(hall, "get.device.info", "nonsense"))["code"] == -3
    whole = (await call(hall, "get.miner.status", "summary+pools+edevs"))["msg"]
    truth = hall.truth(16)
    assert whole["summary"]["power-realtime"] == round(truth.power_w)
    assert sum(board["hash-average"] for board in whole["edevs"]) == pytest.approx(
        whole["summary"]["hash-realtime"], abs=0.01
    )
    assert whole["pools"][0]["account"] == "hcp.one.16"
    assert (await call(hall, "get.miner.status"))["code"] == -3
    assert (await call(hall, "get.miner.status", "all"))["code"] == -2
    assert (await call(hall, "get.system.setting"))["code"] == (await call(hall, "get.fan.setting"))["code"] == 0


async def test_writes_of_api_3(hall):
    for wrong in ({"password": "admin"}, {"account": "admin"}):
        assert (await change(hall, "set.miner.service", "stop", **wrong))["code"] == -4
    assert (await call(hall, "set.miner.service", "stop"))["code"] == -4
    assert hall.truth(16).state == FULL
    assert await change(hall, "set.miner.service", "stop") == {
        "code": 0, "when": int(hall.clock.at_s), "msg": "ok", "desc": "set.miner.service",
    }  # fmt: skip
    hall.pass_s(300)
    assert hall.truth(16).state == OFF
    assert (await call(hall, "get.device.info", "miner"))["msg"]["miner"]["working"] == "false"
    assert (await change(hall, "set.miner.power_mode", "low"))["code"] == 0
    assert (await change(hall, "set.miner.service", "start"))["code"] == 0
    assert hall.truth(16).state == ECO
    assert (await call(hall, "get.miner.setting"))["msg"]["power-mode"] == "low"
    for command, param in [("service", "dance"), ("power_mode", "high"), ("power_limit", "3000"), ("power_limit", 500)]:
        assert (await change(hall, f"set.miner.{command}", param))["code"] == -1
    assert (await change(hall, "set.miner.power_percent", {"percent": 85, "mode": "fast"}))["code"] == 0
    hall.pass_s(300)
    assert hall.truth(16).power_w == pytest.approx(0.85 * 3441, rel=1e-3)


async def test_pools_of_api_3_come_encrypted(hall):
    pools = [{"pool": "stratum+tcp://y.invalid:1", "worker": "w", "passwd": "p"}]
    assert (await change(hall, "set.miner.pools", pools))["code"] == 0
    rows = (await call(hall, "get.miner.status", "pools"))["msg"]["pools"]
    assert [(row["url"], row["account"]) for row in rows] == [("stratum+tcp://y.invalid:1", "w")]
    assert (await change(hall, "set.miner.pools", "nonsense"))["code"] == -1


async def test_a_version_3_machine_reads_on_4028_and_writes_nothing_there(hall):
    assert json.loads(await ask(hall, 16, "summary"))["SUMMARY"][0]["Power"] == round(hall.truth(16).power_w)
    writer = await Writer(hall, 16).token()
    assert (await writer.write("power_off"))["Code"] == 45
    assert hall.truth(16).state == FULL


async def test_a_version_3_machine_may_have_closed_4028(tmp_path):
    async with Hall(tmp_path, "whatsminer-v3@closed-4028") as hall:
        hall.set(0, FULL)
        miner = await hall.miner(0)
        assert "BTMinerV2" in {base.__name__ for base in type(miner).__mro__}, "pyasic takes it for the older kind"
        assert (await call(hall, "get.device.info", slot=0))["code"] == 0
