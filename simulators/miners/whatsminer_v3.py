"""WhatsMiner API 3: what a version 3 machine reads out on port 4433, open to everyone. Writes are in `whatsminer_v3_write`.

Fields and codes as in MicroBT's API 3 documentation.
"""

from collections.abc import Callable
from typing import Any, Final

from simulators.miners.framed import INVALID_COMMAND, INVALID_JSON, v3_reply
from simulators.miners.miner import Miner
from simulators.miners.report import Report
from simulators.miners.rows import used_pools
from simulators.miners.whatsminer_common import error_time, errors, power_limit_w, power_mode, power_w, psu_fan
from simulators.miners.whatsminer_v3_write import WRITES, write

Json = dict[str, Any]


def answer(miner: Miner, request: Json) -> Json:
    """The reply to one request."""
    command = request.get("cmd")
    if not isinstance(command, str):
        return v3_reply(miner, "", "invalid json item", INVALID_JSON)
    if command in _READS:
        return _READS[command](miner, request.get("param"))
    if command in WRITES:
        return write(miner, command, request)
    return v3_reply(miner, command, "invalid command", INVALID_COMMAND)


def _device_info(miner: Miner, wanted: object) -> Json:
    command = "get.device.info"
    report = miner.report()
    parts: dict[str, object] = {
        "network": _network(miner),
        "miner": _about(miner, report),
        "system": _system(miner),
        "power": _power(miner, report),
        "salt": miner.identity.salt,
        "error-code": [{str(code): error_time(report), "reason": text} for code, text in errors(report)],
    }
    if wanted is None:
        return v3_reply(miner, command, parts)
    if not isinstance(wanted, str) or wanted not in parts:
        return v3_reply(miner, command, "invalid param", INVALID_JSON)
    return v3_reply(miner, command, {wanted: parts[wanted]})


def _status(miner: Miner, wanted: object) -> Json:
    command = "get.miner.status"
    makers: dict[str, Callable[[], object]] = {
        "summary": lambda: _summary(miner, report),
        "pools": lambda: _pools(miner, report),
        "edevs": lambda: _boards(miner, report),
    }
    if not isinstance(wanted, str):
        return v3_reply(miner, command, "param item is null", INVALID_JSON)
    names = wanted.split("+")
    if not set(names) <= set(makers):
        return v3_reply(miner, command, "invalid param", INVALID_COMMAND)
    report = miner.report()
    return v3_reply(miner, command, {name: makers[name]() for name in names})


def _setting(miner: Miner, _wanted: object) -> Json:
    report = miner.report()
    settings = miner.memory.settings
    return v3_reply(
        miner,
        "get.miner.setting",
        {
            "power-limit": power_limit_w(miner),
            "upfreq-speed": int(settings.get("upfreq_speed", "2")),
            "power-mode": power_mode(report, miner).lower(),
            "fast-boot": settings.get("fast_boot", "disable"),
            "fast-hash": "disable",
            "heat-mode": "normal",
            "target-freq": 0,
            "power": round(report.power_w),
            "power-percent": int(settings.get("power_pct", "0")),
        },
    )


def _system_setting(miner: Miner, _wanted: object) -> Json:
    zone = {"timezone": "CST-8", "zonename": "Asia/Shanghai"}
    return v3_reply(miner, "get.system.setting", {"web-pool": 1, "hostname": miner.identity.hostname, **zone})


def _fan_setting(miner: Miner, _wanted: object) -> Json:
    values = {"fan-poweroff-cool": 0, "fan-zero-speed": 0, "fan-temp-offset": 0}
    return v3_reply(miner, "get.fan.setting", values)


def _network(miner: Miner) -> Json:
    return {
        "ip": miner.address,
        "proto": "dhcp",
        "netmask": "255.0.0.0",
        "dns": "127.0.0.1",
        "mac": miner.identity.mac,
        "gateway": "127.0.0.1",
        "hostname": miner.identity.hostname,
    }


def _about(miner: Miner, report: Report) -> Json:
    boards = range(len(report.boards))
    return {
        "working": "true" if report.is_mining else "false",
        "type": miner.hardware.type,
        "hash-board": miner.hardware.type.rpartition("_V")[2],
        "cointype": "BTC/BCH/BSV",
        "pool-strategy": "FAILOVER",
        "heatmode": "",
        "hash-percent": "",
        "fast-boot": miner.memory.settings.get("fast_boot", "disable"),
        "board-num": str(len(report.boards)),
        **{f"pcbsn{number}": miner.identity.board_serial(number) for number in boards},
        "miner-sn": miner.identity.serial,
        "power-limit-set": str(miner.memory.power_limit_w or ""),
        "web-pool": 1,
    }


def _system(miner: Miner) -> Json:
    return {
        "api": miner.firmware.api,
        "platform": "H616",
        "fwversion": miner.firmware.version,
        "control-board-version": "CB6V10",
        "btrom": "1",
        "apiswitch": "1",
        "ledstatus": "manual" if miner.memory.is_blinking else "auto",
    }


def _power(miner: Miner, report: Report) -> Json:
    volts = 230.0
    return {
        "type": "P564B",
        "mode": "1",
        "hwversion": "R00010",
        "swversion": "20221024_P00032.20221017_S00030",
        "model": "P564B",
        "iin": round(report.power_w / volts, 2),
        "vin": volts,
        "vout": 1209 if report.is_mining else 0,
        "pin": round(report.power_w),
        "fanspeed": psu_fan(report),
        "temp0": round(report.ambient_c + 8.0, 1),
        "sn": f"{miner.identity.serial}P",
        "vendor": "1",
    }


def _summary(miner: Miner, report: Report) -> Json:
    rate_ths = round(report.rate_ghs / 1000.0, 3)
    power = power_w(miner, report)
    chips = report.boards[0].chip_c
    fan_in, fan_out = (*report.fans, 0, 0)[:2]
    return {
        "elapsed": report.elapsed_s,
        "bootup-time": report.elapsed_s + 60,
        "freq-avg": report.frequency_mhz if report.is_mining else 0,
        "target-freq": 0,
        "factory-hash": round(report.factory_ghs / 1000.0, 3),
        "hash-average": rate_ths,
        "hash-1min": rate_ths,
        "hash-15min": rate_ths,
        "hash-realtime": rate_ths,
        "power-rate": round(report.power_w / max(rate_ths, 1.0), 3) if report.is_mining else 0,
        "power-5min": float(power),
        "power-realtime": power,
        "environment-temperature": round(report.ambient_c, 1),
        "board-temperature": [round(report.board_c, 1)] * len(report.boards),
        "chip-temp-min": float(min(chips)),
        "chip-temp-avg": round(report.chip_c, 1),
        "chip-temp-max": float(max(chips)),
        "power-limit": power_limit_w(miner),
        "up-freq-finish": int(report.is_mining),
        "fan-speed-in": fan_in,
        "fan-speed-out": fan_out,
    }


def _pools(miner: Miner, report: Report) -> list[Json]:
    return [
        {
            "id": number + 1,
            "url": pool.url,
            "status": "alive" if report.has_work or not report.is_mining else "dead",
            "account": pool.user,
            "stratum-active": position == 0 and report.has_work,
            "reject-rate": round(report.rejected_percent, 4) if position == 0 else 0.0,
            "last-share-time": report.now_s if position == 0 and report.rate_ghs > 0 else 0,
        }
        for position, (number, pool) in enumerate(used_pools(miner))
    ]


def _boards(_miner: Miner, report: Report) -> list[Json]:
    return [
        {
            "id": board.number,
            "slot": board.number,
            "hash-average": round(board.rate_ghs / 1000.0, 3),
            "factory-hash": round(report.factory_ghs / 1000.0 / len(report.boards), 3),
            "freq": report.frequency_mhz if report.is_mining else 0,
            "effective-chips": board.chips if report.is_mining else 0,
            "chip-temp-min": float(min(board.chip_c)),
            "chip-temp-avg": round(sum(board.chip_c) / len(board.chip_c), 1),
            "chip-temp-max": float(max(board.chip_c)),
        }
        for board in report.boards
    ]


_READS: Final[dict[str, Callable[[Miner, object], Json]]] = {
    "get.device.info": _device_info,
    "get.miner.status": _status,
    "get.miner.setting": _setting,
    "get.system.setting": _system_setting,
    "get.fan.setting": _fan_setting,
}
