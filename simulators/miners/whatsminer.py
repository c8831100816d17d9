"""WhatsMiner API 2 on port 4028: what btminer reads out, open to everyone. Writes are in `whatsminer_write`.

A version 3 machine serves the same here, read-only. Fields as in captured replies of M30S to M63S machines (asic-rs, users'
code); codes as in MicroBT's API 2 document.
"""

import json
import re
from collections.abc import Callable
from typing import Final

from simulators.miners.cgminer import INVALID_COMMAND, INVALID_JSON, Json, Reply, join
from simulators.miners.firmware import Firmware
from simulators.miners.miner import Miner
from simulators.miners.report import Board, Report
from simulators.miners.rows import used_pools
from simulators.miners.whatsminer_common import error_time, errors, power_limit_w, power_mode, power_w, psu_fan
from simulators.miners.whatsminer_write import get_token, message, write
from simulators.work import SHARE_DIFFICULTY

OK: Final = 131
_DRIVER: Final = "bitmicro"
_ERRORS: Final = re.compile(r'"error_code":\[\{(.+?)\}\]')


def answer(miner: Miner, request: Json) -> Reply:
    """The reply to one request; what changes something has to come encrypted."""
    if "enc" in request:
        return write(miner, request)
    command = request.get("command", request.get("cmd"))
    if not isinstance(command, str):
        return Reply(refusal(miner, ""))
    if command == "get_token":
        return Reply(_text(miner.firmware, get_token(miner)))
    report = miner.report()
    names = command.split("+")
    if len(names) == 1:
        return Reply(_text(miner.firmware, _read(miner, report, command, request.get("info"))))
    return Reply(_text(miner.firmware, join(names, lambda name: _read(miner, report, name))))


def refusal(miner: Miner, _problem: str) -> bytes:
    """The reply to what is no request."""
    return _text(miner.firmware, message(miner, INVALID_JSON, "json cmd err", "E"))


def _read(miner: Miner, report: Report, command: str, wanted: object = None) -> Json:
    rows: dict[str, tuple[str, str, Callable[[], list[Json]]]] = {
        "summary": ("Summary", "SUMMARY", lambda: [_summary(miner, report)]),
        "devs": (
            f"{len(report.boards)} ASC(s)",
            "DEVS",
            lambda: [_dev(miner, report, board) for board in report.boards],
        ),
        "edevs": (
            f"{len(report.boards)} ASC(s)",
            "DEVS",
            lambda: [_dev(miner, report, board) for board in report.boards],
        ),
        "pools": (f"{len(used_pools(miner))} Pool(s)", "POOLS", lambda: _pools(miner, report)),
        "devdetails": ("Device Details", "DEVDETAILS", lambda: _details(miner, report)),
    }
    objects = {
        "status": _status,
        "get_version": _version,
        "get_miner_info": _info,
        "get_psu": _psu,
        "get_error_code": _errors,
    }
    if command == "get_miner_info" and isinstance(wanted, str) and wanted:
        whole = _info(miner, report)
        return message(miner, OK, {name: whole[name] for name in wanted.split(",") if name in whole})
    if command in objects:
        return message(miner, OK, objects[command](miner, report))
    is_off = miner.firmware.off_key == "btmineroff" and not report.is_mining
    if command not in rows or is_off:
        return message(miner, INVALID_COMMAND, "invalid cmd", "E")
    text, name, make = rows[command]
    return {"STATUS": [{"STATUS": "S", "Msg": text}], name: make(), "id": 1}


def _summary(miner: Miner, report: Report) -> Json:
    rate_mhs = round(1000.0 * report.rate_ghs, 2)
    minute = {"MHS 1m": rate_mhs} if miner.firmware.has_minute_rate else {}
    power = power_w(miner, report)
    recent = {"Power_RT": power, "Power Fanspeed": psu_fan(report)} if miner.firmware.has_minute_rate else {}
    fan_in, fan_out = (*report.fans, 0, 0)[:2]
    return {
        "Elapsed": report.elapsed_s,
        "MHS av": rate_mhs,
        "MHS 5s": rate_mhs,
        **minute,
        "MHS 5m": rate_mhs,
        "MHS 15m": rate_mhs,
        "HS RT": rate_mhs,
        "Accepted": report.accepted,
        "Rejected": report.rejected,
        "Total MH": round(report.total_mh, 4),
        "Temperature": round(report.board_c, 2),
        "freq_avg": report.frequency_mhz if report.is_mining else 0,
        "Fan Speed In": fan_in,
        "Fan Speed Out": fan_out,
        "Power": power,
        **recent,
        "Power Rate": round(report.power_w / max(report.rate_ghs / 1000.0, 1.0), 2) if report.is_mining else 0,
        "Pool Rejected%": round(report.rejected_percent, 4),
        "Pool Stale%": 0.0,
        "Last getwork": 0,
        "Uptime": report.elapsed_s + 60,
        "Security Mode": 0,
        "Hash Stable": report.is_mining,
        "Hash Stable Cost Seconds": 627,
        "Hash Deviation%": 0.0,
        "Target Freq": miner.hardware.frequency_mhz,
        "Target MHS": round(1000.0 * report.ideal_ghs) if report.is_mining else 0,
        "Env Temp": round(report.ambient_c, 2),
        "Power Mode": power_mode(report, miner),
        "Firmware Version": _version_text(miner.firmware),
        "MAC": miner.identity.mac,
        "Factory GHS": round(report.factory_ghs),
        "Power Limit": power_limit_w(miner),
        "Chip Temp Min": float(min(report.boards[0].chip_c)),
        "Chip Temp Max": float(max(report.boards[0].chip_c)),
        "Chip Temp Avg": round(report.chip_c, 2),
        "Error Code Count": len(errors(report)),
        **{f"Error Code {number}": code for number, (code, _) in enumerate(errors(report))},
        "Debug": "",
        "Btminer Fast Boot": miner.memory.settings.get("fast_boot", "disable"),
        "Upfreq Complete": int(report.is_mining),
    }


def _dev(miner: Miner, report: Report, board: Board) -> Json:
    rate_mhs = round(1000.0 * board.rate_ghs, 2)
    minute = {"MHS 1m": rate_mhs} if miner.firmware.has_minute_rate else {}
    return {
        "ASC": board.number,
        "Slot": board.number,
        "Enabled": "Y",
        "Status": "Alive" if report.is_mining and not board.is_dead else "Initialising",
        "Temperature": float(max(board.pcb_c)),
        "Chip Frequency": report.frequency_mhz if report.is_mining else 0,
        "MHS av": rate_mhs,
        "MHS 5s": rate_mhs,
        **minute,
        "MHS 5m": rate_mhs,
        "MHS 15m": rate_mhs,
        "HS RT": rate_mhs,
        "Factory GHS": round(report.factory_ghs / len(report.boards)),
        "Upfreq Complete": int(report.is_mining),
        "Effective Chips": board.chips if report.is_mining else 0,
        "PCB SN": miner.identity.board_serial(board.number),
        "Chip Data": "K88Z001-24031801  BINV01-195001B",
        "Chip Temp Min": float(min(board.chip_c)),
        "Chip Temp Max": float(max(board.chip_c)),
        "Chip Temp Avg": round(sum(board.chip_c) / len(board.chip_c), 2),
        "chip_vol_diff": 9,
    }


def _pools(miner: Miner, report: Report) -> list[Json]:
    return [
        {
            "POOL": number + 1,
            "URL": pool.url,
            "Status": "Alive" if report.has_work or not report.is_mining else "Dead",
            "Priority": number,
            "Quota": 1,
            "Long Poll": "N",
            "Getworks": 0,
            "Accepted": report.accepted if position == 0 else 0,
            "Rejected": report.rejected if position == 0 else 0,
            "Works": 0,
            "Discarded": 0,
            "Stale": 0,
            "Get Failures": 0,
            "Remote Failures": 0,
            "User": pool.user,
            "Last Share Time": report.now_s if position == 0 and report.rate_ghs > 0 else 0,
            "Stratum Active": position == 0 and report.has_work,
            "Stratum Difficulty": SHARE_DIFFICULTY,
            "Pool Rejected%": round(report.rejected_percent, 4) if position == 0 else 0.0,
            "Pool Stale%": 0.0,
            "Bad Work": 0,
            "Current Block Height": 0,
            "Current Block Version": 536870912,
        }
        for position, (number, pool) in enumerate(used_pools(miner))
    ]


def _details(miner: Miner, report: Report) -> list[Json]:
    return [
        {
            "DEVDETAILS": board.number,
            "Name": "SM",
            "ID": board.number,
            "Driver": _DRIVER,
            "Kernel": "",
            "Model": miner.hardware.type,
        }
        for board in report.boards
    ]


def _status(miner: Miner, report: Report) -> Json:
    is_off = not report.is_mining
    return {
        miner.firmware.off_key: "true" if is_off else "false",
        "Firmware Version": _version_text(miner.firmware),
        "power_mode": power_mode(report, miner),
        "power_limit_set": str(miner.memory.power_limit_w or ""),
        "hash_percent": miner.memory.settings.get("power_pct", ""),
    }


def _version(miner: Miner, _report: Report) -> Json:
    return {
        "api_ver": miner.firmware.api,
        "fw_ver": miner.firmware.version,
        "platform": "H616",
        "chip": "K88Z001-24031801",
    }


def _info(miner: Miner, _report: Report) -> Json:
    return {
        "ip": miner.address,
        "proto": "dhcp",
        "netmask": "255.0.0.0",
        "gateway": "127.0.0.1",
        "dns": "127.0.0.1",
        "hostname": miner.identity.hostname,
        "mac": miner.identity.mac,
        "ledstat": "manual" if miner.memory.is_blinking else "auto",
        "minersn": miner.identity.serial,
        "powersn": f"{miner.identity.serial}P",
    }


def _psu(miner: Miner, report: Report) -> Json:
    volts = 230.0
    return {
        "name": "P564B",
        "hw_version": "R00010",
        "sw_version": "20221024_P00032.20221017_S00030",
        "model": "P564B",
        "enable": "1" if report.is_mining else "0",
        "iin": f"{report.power_w / volts:.2f}",
        "vin": f"{volts:.2f}",
        "pin": str(round(report.power_w)),
        "fan_speed": str(psu_fan(report)),
        "serial_no": f"{miner.identity.serial}P",
        "vendor": "1",
        "temp0": f"{report.ambient_c + 8.0:.1f}",
    }


def _errors(miner: Miner, report: Report) -> Json:
    codes = [code for code, _ in errors(report)]
    if miner.firmware.errors_as == "numbers":
        return {"error_code": codes}
    return {"error_code": [{str(code): error_time(report)} for code in codes]}


def _version_text(firmware: Firmware) -> str:
    return f"'{firmware.version}'" if firmware.quotes_version else firmware.version


def _text(firmware: Firmware, reply: Json) -> bytes:
    """The reply as this version writes it: some of them are not JSON."""
    text = json.dumps(reply, separators=(",", ":"))
    if firmware.errors_as == "texts":
        text = _ERRORS.sub(lambda found: f'"error_code":[{found[1].replace("},{", ",")}]', text)
    if firmware.broken_text:
        for clean, broken in (
            ('","temp0"', '""temp0"'),
            ('"Description":""}', '"Description":"",}'),
            (',"id":1', ',\n"id":1'),
        ):
            text = text.replace(clean, broken)
    return text.encode()
