"""Every field that each dialect must answer, with its type, over real sockets; and what clients in other languages send.

The tables are those that the drivers of owners' software read (pyasic, asic-rs, hass-miner); the values are checked elsewhere.
"""

import json
import re

import pytest

from simulators.addresses import address_of
from tests.support.device_clients import antminer
from tests.support.miners import FULL, Hall, talk

STOCK, V2, V3, LUXOS = 0, 16, 32, 48
NUMBER = (int, float)
_RATE = r"\d+\.\d\d"


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, "stock", "whatsminer", "whatsminer-v3", "luxos") as hall:
        for slot in (STOCK, V2, V3, LUXOS):
            hall.set(slot, FULL)
        yield hall


async def ask(hall, slot, request):
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    return await talk(address_of(0, slot), hall.port(4028), text)


async def read(hall, slot, command, **more):
    return json.loads((await ask(hall, slot, {"command": command} | more)).rstrip(b"\0"))


def check(row, fields):
    """Types by name; a text is a pattern that the value, itself a text, has to match."""
    for name, wanted in fields.items():
        value = row[name]
        if isinstance(wanted, str):
            assert isinstance(value, str), name
            assert re.fullmatch(wanted, value), (name, value)
        else:
            assert isinstance(value, wanted), (name, value)
            assert isinstance(value, bool) is (wanted is bool), (name, value)


STOCK_STATS = {
    "STATS": int,
    "ID": "BTM_SOC0",
    "Elapsed": int,
    "GHS 5s": NUMBER,
    "GHS av": NUMBER,
    "rate_30m": NUMBER,
    "miner_count": int,
    "frequency": int,
    "fan_num": int,
    **{f"fan{n}": int for n in range(1, 5)},
    "temp_num": int,
    "temp1": int,
    "temp2_3": int,
    "temp_max": int,
    "total_rateideal": NUMBER,
    "rate_unit": "GH",
    "total_freqavg": int,
    "total_acn": int,
    "total rate": NUMBER,
    "chain_acn1": int,
    "chain_acs1": r"[ o]+",
    "chain_hw1": int,
    "chain_rate1": _RATE,
    "chain_rate4": "",
    "freq1": int,
    "temp_chip1": r"\d+(-\d+){3}",
    "temp_pcb1": r"\d+(-\d+){3}",
    "temp_pic1": r"\d+(-\d+){3}",
    "temp_chip4": "0-0-0-0",
    "miner_version": ".+",
    "miner_id": ".+",
    "no_matching_work": int,
}
SUMMARY = {
    "Elapsed": int,
    "GHS 5s": NUMBER,
    "GHS av": NUMBER,
    "Found Blocks": int,
    "Accepted": int,
    "Rejected": int,
    "Hardware Errors": int,
    "Utility": NUMBER,
    "Total MH": NUMBER,
    "Work Utility": NUMBER,
    "Difficulty Accepted": NUMBER,
    "Pool Rejected%": NUMBER,
    "Best Share": int,
}
POOL = {
    "POOL": int,
    "URL": "stratum.+",
    "Status": "Alive",
    "Priority": int,
    "Getworks": int,
    "Accepted": int,
    "Rejected": int,
    "Stale": int,
    "User": ".+",
    "Stratum Active": bool,
    "Has Stratum": bool,
    "Stratum URL": ".*",
    "Last Share Time": ".+",
    "Diff": ".+",
}


async def test_stock_on_4028(hall):
    version = (await read(hall, STOCK, "version"))["VERSION"][0]
    check(version, {"BMMiner": ".+", "API": ".+", "Miner": ".+", "CompileTime": ".+", "Type": "Antminer S21"})
    stats = (await read(hall, STOCK, "stats"))["STATS"]
    check(stats[0], {"BMMiner": ".+", "Miner": ".+", "CompileTime": ".+", "Type": "Antminer S21"})
    check(stats[1], STOCK_STATS)
    check((await read(hall, STOCK, "summary"))["SUMMARY"][0], SUMMARY)
    check((await read(hall, STOCK, "pools"))["POOLS"][0], POOL)
    status = (await read(hall, STOCK, "summary"))["STATUS"][0]
    check(status, {"STATUS": "S", "When": int, "Code": int, "Msg": "Summary", "Description": "cgminer .+"})
    invalid = {"STATUS": "E", "Code": 14, "Msg": "Invalid command"}
    for name in ("devdetails", "SUMMARY", "quit", "nothing"):
        assert (await read(hall, STOCK, name))["STATUS"][0].items() >= invalid.items(), name


async def test_stock_in_its_newer_shape_and_on_its_pages(hall):
    place = (address_of(0, STOCK), hall.port(80))
    for source in ("4028", "web"):
        got = {}
        for name in ("stats", "summary", "pools"):
            got[name] = await (read(hall, STOCK, name, new_api=True) if source == "4028" else antminer(place, name))
            check(got[name]["STATUS"], {"STATUS": "S", "when": int, "Msg": name, "api_version": ".+"})
            check(got[name]["INFO"], {"miner_version": ".+", "CompileTime": ".+", "type": "Antminer S21"})
        stats = got["stats"]["STATS"][0]
        check(
            stats,
            {
                "elapsed": int,
                "rate_5s": NUMBER,
                "rate_30m": NUMBER,
                "rate_avg": NUMBER,
                "rate_ideal": NUMBER,
                "rate_unit": "GH/s",
            },
        )
        check(
            stats,
            {
                "chain_num": int,
                "fan_num": int,
                "fan": list,
                "hwp_total": float,
                "miner-mode": int,
                "freq-level": int,
                "chain": list,
            },
        )
        chain = stats["chain"][0]
        check(
            chain,
            {
                "index": int,
                "freq_avg": int,
                "rate_ideal": NUMBER,
                "rate_real": NUMBER,
                "asic_num": int,
                "asic": "[ o]+",
            },
        )
        check(
            chain,
            {
                "temp_pic": list,
                "temp_pcb": list,
                "temp_chip": list,
                "hw": int,
                "eeprom_loaded": bool,
                "sn": ".+",
                "hwp": float,
            },
        )
        summary = got["summary"]["SUMMARY"][0]
        check(summary, {"elapsed": int, "rate_5s": NUMBER, "hw_all": int, "bestshare": int, "status": list})
        assert [one["type"] for one in summary["status"]] == ["rate", "network", "fans", "temp"]
        check(summary["status"][0], {"status": "s", "code": int, "msg": ""})
        pool = got["pools"]["POOLS"][0]
        check(
            pool,
            {
                "index": int,
                "url": "stratum.+",
                "user": ".+",
                "status": "Alive",
                "priority": int,
                "accepted": int,
                "rejected": int,
            },
        )
    info = await antminer(place, "get_system_info")
    check(
        info,
        {
            "minertype": "Antminer S21",
            "macaddr": "02:.+",
            "hostname": ".+",
            "serinum": ".+",
            "system_filesystem_version": ".+",
        },
    )
    check(info, {"nettype": "DHCP", "ipaddress": r"127\.16\.0\.1", "firmware_type": ".+", "Algorithm": "sha256d"})
    conf = await antminer(place, "get_miner_conf")
    check(
        conf,
        {
            "pools": list,
            "bitmain-fan-ctrl": bool,
            "bitmain-fan-pwm": ".+",
            "bitmain-work-mode": int,
            "bitmain-freq": ".+",
        },
    )
    assert set(conf["pools"][0]) == {"url", "user", "pass"}
    assert await antminer(place, "get_blink_status") == {"blink": False}


async def test_whatsminer_2(hall):
    summary = (await read(hall, V2, "summary"))["SUMMARY"][0]
    rates = {f"MHS {name}": NUMBER for name in ("av", "5s", "1m", "5m", "15m")}
    check(
        summary,
        {
            "Elapsed": int,
            **rates,
            "HS RT": NUMBER,
            "Accepted": int,
            "Rejected": int,
            "Total MH": NUMBER,
            "Temperature": NUMBER,
        },
    )
    check(
        summary,
        {
            "freq_avg": int,
            "Fan Speed In": int,
            "Fan Speed Out": int,
            "Power": int,
            "Power_RT": int,
            "Power Rate": NUMBER,
        },
    )
    check(
        summary,
        {"Env Temp": NUMBER, "Power Mode": "Normal", "Factory GHS": int, "Power Limit": int, "Chip Temp Min": NUMBER},
    )
    check(
        summary,
        {
            "Chip Temp Avg": NUMBER,
            "Uptime": int,
            "Hash Stable": bool,
            "Upfreq Complete": int,
            "MAC": "02:.+",
            "Error Code Count": int,
        },
    )
    boards = (await read(hall, V2, "devs"))["DEVS"]
    assert len(boards) == 3
    check(
        boards[0],
        {"ASC": int, "Slot": int, "Status": "Alive", "Temperature": NUMBER, "MHS 1m": NUMBER, "Factory GHS": int},
    )
    check(
        boards[0],
        {
            "Effective Chips": int,
            "PCB SN": ".+",
            "Chip Temp Avg": NUMBER,
            "Chip Frequency": int,
            "Upfreq Complete": int,
        },
    )
    check(
        (await read(hall, V2, "devdetails"))["DEVDETAILS"][0],
        {"Name": "SM", "Driver": "bitmicro", "Model": "M60S_VK30"},
    )
    check(
        (await read(hall, V2, "status"))["Msg"],
        {"mineroff": "false", "Firmware Version": ".+", "power_limit_set": ".*"},
    )
    check(
        (await read(hall, V2, "get_version"))["Msg"],
        {"api_ver": ".+", "fw_ver": r"20\d{6}\..+", "platform": ".+", "chip": ".+"},
    )
    info = (await read(hall, V2, "get_miner_info"))["Msg"]
    check(
        info,
        dict.fromkeys(
            ("ip", "proto", "netmask", "gateway", "dns", "hostname", "mac", "ledstat", "minersn", "powersn"), ".+"
        ),
    )
    some = (await read(hall, V2, "get_miner_info", info="mac,ip,nothing"))["Msg"]
    assert some == {"mac": info["mac"], "ip": info["ip"]}
    psu = (await read(hall, V2, "get_psu"))["Msg"]
    check(
        psu,
        dict.fromkeys(
            (
                "name",
                "hw_version",
                "sw_version",
                "model",
                "iin",
                "vin",
                "pin",
                "fan_speed",
                "serial_no",
                "vendor",
                "temp0",
            ),
            ".+",
        ),
    )
    check((await read(hall, V2, "get_error_code"))["Msg"], {"error_code": list})
    check(await read(hall, V2, "status"), {"STATUS": "S", "When": int, "Code": int, "Description": ""})
    assert json.loads(await ask(hall, V2, {"cmd": "summary"}))["SUMMARY"], "either name of the member"
    assert not (await ask(hall, V2, {"cmd": "summary"})).endswith(b"\0")


async def frame(hall, request):
    text = json.dumps(request).encode()
    reply = await talk(address_of(0, V3), hall.port(4433), len(text).to_bytes(4, "little") + text, close=True)
    return json.loads(reply[4:])


async def test_whatsminer_3(hall):
    device = await frame(hall, {"cmd": "get.device.info", "param": None})
    check(device, {"code": int, "when": int, "msg": dict, "desc": "get.device.info"})
    assert set(device["msg"]) == {"network", "miner", "system", "power", "salt", "error-code"}
    check(device["msg"]["system"], {"api": r"3\..+", "fwversion": "2025.+", "platform": ".+", "ledstatus": "auto"})
    check(
        device["msg"]["miner"],
        {"type": "M60S_VK30", "working": "true", "miner-sn": ".+", "board-num": "3", "pcbsn0": ".+"},
    )
    check(device["msg"]["power"], {"pin": int, "vin": NUMBER, "iin": NUMBER, "fanspeed": int, "sn": ".+"})
    status = (await frame(hall, {"cmd": "get.miner.status", "param": "summary+edevs+pools"}))["msg"]
    rates = dict.fromkeys(("hash-realtime", "hash-average", "hash-1min", "hash-15min", "factory-hash"), NUMBER)
    check(status["summary"], rates | {"elapsed": int, "power-realtime": int, "power-5min": float, "power-limit": int})
    check(
        status["summary"],
        dict.fromkeys(("environment-temperature", "chip-temp-min", "chip-temp-avg", "chip-temp-max"), NUMBER),
    )
    check(status["summary"], {"fan-speed-in": int, "fan-speed-out": int, "freq-avg": int, "board-temperature": list})
    check(
        status["edevs"][0],
        {"id": int, "slot": int, "hash-average": NUMBER, "factory-hash": NUMBER, "freq": int, "effective-chips": int},
    )
    check(
        status["pools"][0], {"id": int, "url": "stratum.+", "status": "alive", "account": ".+", "stratum-active": bool}
    )


async def test_luxos(hall):
    version = await read(hall, LUXOS, "version")
    check(version["STATUS"][0], {"STATUS": "S", "Code": int, "Description": "LUXminer .+"})
    check(
        version["VERSION"][0],
        {"API": ".+", "LUXminer": ".+", "Miner": ".+", "CompileTime": ".+", "Type": "Antminer S21"},
    )
    stats = (await read(hall, LUXOS, "stats"))["STATS"][1]
    check(
        stats,
        {**{f"chain_rate{n}": _RATE for n in (1, 2, 3)}, "total_rateideal": NUMBER, "rate_unit": "GH", "fan1": int},
    )
    check(stats, {f"temp_{what}{n}": r"[1-9]\d*(-[1-9]\d*){3}" for what in ("pcb", "chip") for n in (1, 2, 3)})
    check((await read(hall, LUXOS, "summary"))["SUMMARY"][0], SUMMARY)
    check((await read(hall, LUXOS, "pools"))["POOLS"][0], POOL | {"GROUP": int})
    check((await read(hall, LUXOS, "power"))["POWER"][0], {"Watts": int, "PSU": bool})
    check((await read(hall, LUXOS, "fans"))["FANS"][0], {"FAN": int, "RPM": int, "Speed": int})
    profile = (await read(hall, LUXOS, "profiles"))["PROFILES"][-1]
    check(
        profile,
        {"Profile Name": "default", "Step": "0", "Frequency": int, "Voltage": NUMBER, "Hashrate": NUMBER, "Watts": int},
    )
    config = (await read(hall, LUXOS, "config"))["CONFIG"][0]
    check(
        config,
        {
            "Profile": "default",
            "IsAtmEnabled": bool,
            "MACAddr": "02:.+",
            "Hostname": ".+",
            "SystemStatus": "Mining",
            "CurtailMode": "None",
        },
    )
    check(
        (await read(hall, LUXOS, "tempctrl"))["TEMPCTRL"][0],
        {"Mode": ".+", "Target": NUMBER, "Hot": NUMBER, "Dangerous": NUMBER},
    )
    check((await read(hall, LUXOS, "groups"))["GROUPS"][0], {"GROUP": int, "Name": ".+", "Quota": int})
    check((await read(hall, LUXOS, "atm"))["ATM"][0], {"Enabled": bool})
    check((await read(hall, LUXOS, "limits"))["LIMITS"][0], {"FrequencyMin": int, "FrequencyMax": int})
    assert (await read(hall, LUXOS, "asccount"))["ASCS"] == [{"Count": 3}]
    check(
        (await read(hall, LUXOS, "devs"))["DEVS"][0],
        {"ASC": int, "Status": "Alive", "MHS 5s": NUMBER, "Temperature": NUMBER},
    )


@pytest.mark.parametrize("text", [b"version", b"version|", b"version\n", b"version|\n", b"version\0", b"version\r\n"])
async def test_stock_takes_cgminers_text(hall, text):
    reply = await ask(hall, STOCK, text)
    status, version, end = reply.decode().split("|")
    assert re.fullmatch(r"STATUS=S,When=\d+,Code=22,Msg=CGMiner versions,Description=cgminer 1\.0\.0", status)
    assert re.fullmatch(r"VERSION,BMMiner=1\.0\.0,API=3\.1,Miner=[^,]+,CompileTime=[^,]+,Type=Antminer S21", version)
    assert end == "\0"


async def test_text_tells_what_json_does(hall):
    for name, section in (("summary", "SUMMARY"), ("pools", "POOLS"), ("stats", "STATS"), ("devs", "DEVS")):
        rows = (await read(hall, STOCK, name))[section]
        told = (await ask(hall, STOCK, name.encode())).decode().removesuffix("\0").split("|")[1:-1]
        told = [row.removeprefix("SUMMARY,") for row in told]
        assert [dict(pair.split("=", 1) for pair in row.split(",")) for row in told] == [
            {key: str(value).replace("True", "true").replace("False", "false") for key, value in row.items()}
            for row in rows
        ], name
    both = (await ask(hall, STOCK, b"summary+version+summary++")).decode()
    assert re.findall(r"CMD=(\w+)\|STATUS=S", both) == ["summary", "version"]
    assert b"STATUS=E" in (reply := await ask(hall, STOCK, b"nothing|5"))
    assert b"Code=14,Msg=Invalid command," in reply
    assert set(json.loads((await ask(hall, STOCK, {"command": "+summary++pools+"}))[:-1])) == {"summary", "pools", "id"}


async def test_other_dialects_take_json_alone(hall):
    for slot in (V2, V3, LUXOS):
        reply = json.loads((await ask(hall, slot, b"summary|")).rstrip(b"\0"))
        status = reply["STATUS"][0] if isinstance(reply["STATUS"], list) else reply
        assert (status["STATUS"], status["Code"]) == ("E", 23)


async def test_the_pages_as_other_clients_ask_for_them(hall):
    """Proxies' full targets, HTTP/1.0 with and without keeping, a body that waits for its permission."""
    place = (address_of(0, LUXOS), hall.port(80))
    full = await talk(*place, b"GET http://127.16.0.49/ HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert full.startswith(b"HTTP/1.1 200 ")
    assert b"Luxor" in full
    assert (await talk(*place, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"</html>")
    kept = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert (await talk(*place, kept, kept, close=True)).count(b"HTTP/1.1 200 ") == 2
    head = await talk(*place, b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 8" in head
    asks = b"POST /cgi-bin/stats.cgi HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    stock = (address_of(0, STOCK), hall.port(80))
    reply = await talk(*stock, asks, b"{", b"}  ", pause_s=0.05)
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 ")
    assert reply.count(b"100 Continue") == 1
