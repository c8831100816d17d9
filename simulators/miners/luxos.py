"""LuxOS on port 4028: what LUXminer reads out. Sessions and what changes something are in `luxos_write`.

Fields and codes as in docs.luxor.tech/firmware/api and captured replies (asic-rs).
"""

from collections.abc import Callable
from typing import Final

from simulators.miners.cgminer import INVALID_COMMAND, INVALID_JSON, NO_COMMAND, Json, Reply, dump, join, status
from simulators.miners.luxos_profiles import active, profiles
from simulators.miners.luxos_write import SESSION_COMMANDS, about, act, failure
from simulators.miners.miner import Miner
from simulators.miners.report import Board, Report
from simulators.miners.rows import chip_map, dashed, pool_rows, summary_row, used_pools

_API: Final = "3.7"
_TARGET_C, _HOT_C, _DANGEROUS_C = 65, 75, 80
_CORNERS: Final = ("BottomLeft", "TopLeft", "BottomRight", "TopRight")


def answer(miner: Miner, request: Json) -> Reply:
    """The reply to one request; several commands at once only without parameters."""
    command, parameter = request.get("command"), request.get("parameter", "")
    if not isinstance(command, str):
        return Reply(dump(failure(miner, NO_COMMAND, "Missing JSON 'command'")))
    if command in SESSION_COMMANDS:
        return Reply(dump(act(miner, command, str(parameter))))
    report = miner.report()
    names = command.split("+")
    if len(names) == 1:
        return Reply(dump(_read(miner, report, command)))
    return Reply(dump(join(names, lambda name: _read(miner, report, name))))


def refusal(miner: Miner, _problem: str) -> bytes:
    """The reply to what is no request."""
    return dump(failure(miner, INVALID_JSON, "Invalid JSON"))


def _read(miner: Miner, report: Report, command: str) -> Json:
    if command not in _READS:
        return failure(miner, INVALID_COMMAND, "Invalid command")
    code, text, make = _READS[command]
    return {"STATUS": [status(code, text, about(miner), report.now_s)], **make(miner, report), "id": 1}


def _version(miner: Miner, _report: Report) -> Json:
    named = {"Miner": miner.firmware.version.partition("-")[0]} if miner.firmware.names_miner else {}
    values = {"API": _API, "CompileTime": "Tue Apr 8 22:03:05 UTC 2025", "LUXminer": miner.firmware.version, **named}
    return {"VERSION": [values | {"Type": miner.hardware.type}]}


def _stats(miner: Miner, report: Report) -> Json:
    frequency = report.frequency_mhz if report.is_mining else 0
    values: Json = {
        "STATS": 0,
        "ID": "LUX0",
        "Elapsed": report.elapsed_s,
        "Calls": 0,
        "Wait": 0.0,
        "Max": 0.0,
        "Min": 99999999.0,
        "GHS 5s": round(report.rate_ghs, 2),
        "GHS av": round(report.rate_ghs, 2),
        "miner_count": sum(not board.is_dead for board in report.boards),
        "frequency": str(frequency),
        "fan_num": len(report.fans),
        **{f"fan{number + 1}": speed for number, speed in enumerate(report.fans)},
        "temp_num": len(report.boards),
        "temp_max": max(max(board.pcb_c) for board in report.boards),
        "total_acn": sum(board.chips for board in report.boards),
        "total_freqavg": frequency,
        "total_rate": round(report.rate_ghs, 2),
        "total_rateideal": round(report.ideal_ghs, 2),
        "rate_unit": "GH",
        "miner_id": "",
    }
    for board in report.boards:
        values |= _chain(report, board)
    return {"STATS": [_version(miner, report)["VERSION"][0], values]}


def _chain(report: Report, board: Board) -> Json:
    number = board.number + 1
    return {
        f"chain_acn{number}": board.chips,
        f"chain_acs{number}": chip_map(board.chips),
        f"chain_hw{number}": board.hardware_errors,
        f"chain_rate{number}": f"{board.rate_ghs:.2f}",
        f"chain_rateideal{number}": round(board.ideal_ghs, 2),
        f"freq_avg{number}": report.frequency_mhz if report.is_mining else 0,
        f"temp_chip{number}": "0-0-0-0" if board.is_dead else dashed(board.chip_c),
        f"temp_pcb{number}": "0-0-0-0" if board.is_dead else dashed(board.pcb_c),
    }


def _devs(miner: Miner, report: Report) -> Json:
    return {
        "DEVS": [
            {
                "ASC": board.number,
                "Board": board.number,
                "ID": board.number,
                "Name": "LUX",
                "Enabled": "Y",
                "Status": "Dead" if board.is_dead else "Alive",
                "Temperature": float(max(board.pcb_c)),
                "MHS av": round(1000.0 * board.rate_ghs, 2),
                "MHS 5s": round(1000.0 * board.rate_ghs, 2),
                "MHS 1m": round(1000.0 * board.rate_ghs, 2),
                "MHS 5m": round(1000.0 * board.rate_ghs, 2),
                "MHS 15m": round(1000.0 * board.rate_ghs, 2),
                "Nominal MHS": round(1000.0 * board.ideal_ghs, 2),
                "Hardware Errors": board.hardware_errors,
                "Profile": active(miner).name,
                "SerialNumber": miner.identity.board_serial(board.number),
                "Connector": f"J{board.number + 1}",
                "IsUserDisabled": False,
                "IsRamping": False,
            }
            for board in report.boards
        ]
    }


def _details(miner: Miner, report: Report) -> Json:
    frequency = report.frequency_mhz if report.is_mining else 0
    return {
        "DEVDETAILS": [
            {
                "DEVDETAILS": board.number,
                "ID": board.number,
                "Name": "LUX",
                "Driver": "LUXminer",
                "Chips": board.chips,
                "Frequency": frequency,
                "Voltage": miner.hardware.voltage_v if report.is_mining else 0.0,
                "Model": miner.hardware.type,
                "Profile": active(miner).name,
            }
            for board in report.boards
        ]
    }


def _pools(miner: Miner, report: Report) -> Json:
    return {"POOLS": [row | {"GROUP": 0} for row in pool_rows(miner, report)]}


def _groups(miner: Miner, _report: Report) -> Json:
    return {"GROUPS": [{"GROUP": 0, "Name": "default", "Quota": 1, "Pools": len(used_pools(miner)), "Accepted": 0}]}


def _config(miner: Miner, report: Report) -> Json:
    profile = active(miner)
    values = {
        "ASC Count": len(report.boards),
        "ControlBoardType": "AMLogic",
        "CurtailMode": "None" if report.is_mining else "Sleep",
        "Hostname": miner.identity.hostname,
        "IPAddr": miner.address,
        "IsAtmEnabled": miner.memory.settings.get("atm", "false") == "true",
        "IsTuning": False,
        "MACAddr": miner.identity.mac.lower(),
        "Model": miner.hardware.type,
        "PSUHwVersion": "",
        "PSULabel": "APW12",
        "Pool Count": len(used_pools(miner)),
        "Profile": profile.name,
        "ProfileStep": str(profile.step),
        "RedLed": miner.memory.settings.get("red_led", "off"),
        "GreenLed": "on",
        "SerialNumber": miner.identity.serial,
        "Strategy": "Failover",
        "SystemStatus": "Mining" if report.is_mining else "Sleeping",
    }
    return {"CONFIG": [values]}


def _fans(_miner: Miner, report: Report) -> Json:
    top = max(*report.fans, 1)
    rows = [
        {
            "FAN": number,
            "ID": number,
            "RPM": speed,
            "Speed": round(100 * speed / max(top, 6000)),
            "Connector": f"J{number + 5}",
        }
        for number, speed in enumerate(report.fans)
    ]
    return {"FANS": rows, "FANCTRL": [{"MinFans": max(0, len(report.fans) - 1), "PowerOffSpeed": 0}]}


def _power(miner: Miner, report: Report) -> Json:
    is_measured = miner.firmware.measures_power
    estimate_w = active(miner).watts if report.is_mining else 0.0
    return {"POWER": [{"Watts": round(report.power_w if is_measured else estimate_w), "PSU": is_measured}]}


def _profiles(miner: Miner, _report: Report) -> Json:
    return {
        "PROFILES": [
            {
                "Profile Name": one.name,
                "Step": str(one.step),
                "Frequency": one.frequency_mhz,
                "Voltage": one.voltage_v,
                "Hashrate": round(one.rate_ths, 2),
                "Watts": round(one.watts),
                "IsDynamic": False,
                "IsTuned": False,
            }
            for one in profiles(miner)
        ]
    }


def _asccount(_miner: Miner, report: Report) -> Json:
    return {"ASCS": [{"Count": len(report.boards)}]}


def _tempctrl(_miner: Miner, _report: Report) -> Json:
    return {"TEMPCTRL": [{"Mode": "Automatic", "Target": _TARGET_C, "Hot": _HOT_C, "Dangerous": _DANGEROUS_C}]}


def _temps(_miner: Miner, report: Report) -> Json:
    rows = [
        {"TEMP": board.number, "ID": board.number, **dict(zip(_CORNERS, board.pcb_c, strict=True))}
        for board in report.boards
        if not board.is_dead
    ]
    return {"TEMPS": rows}


def _atm(miner: Miner, _report: Report) -> Json:
    values = {
        "Enabled": miner.memory.settings.get("atm", "false") == "true",
        "StartupMinutes": 15,
        "PostRampMinutes": 15,
        "TempWindow": 5,
        "MinProfile": "",
        "MaxProfile": "",
    }
    return {"ATM": [values]}


def _limits(miner: Miner, _report: Report) -> Json:
    volts = miner.hardware.voltage_v
    return {"LIMITS": [{"FrequencyMin": 50, "FrequencyMax": 800, "VoltageMin": volts - 2.0, "VoltageMax": volts + 1.0}]}


_READS: Final[dict[str, tuple[int, str, Callable[[Miner, Report], Json]]]] = {
    "version": (22, "LUXminer versions", _version),
    "summary": (11, "Summary", lambda _miner, report: {"SUMMARY": [summary_row(report)]}),
    "stats": (70, "LUXminer stats", _stats),
    "estats": (70, "LUXminer stats", _stats),
    "devs": (9, "ASC(s)", _devs),
    "edevs": (9, "ASC(s)", _devs),
    "devdetails": (69, "Device Details", _details),
    "asccount": (104, "ASC count", _asccount),
    "pools": (7, "Pool(s)", _pools),
    "groups": (324, "Groups", _groups),
    "config": (33, "LUXminer config", _config),
    "fans": (202, "Fans", _fans),
    "power": (322, "Power", _power),
    "profiles": (323, "Profiles", _profiles),
    "tempctrl": (200, "Temperature control", _tempctrl),
    "temps": (201, "Temps", _temps),
    "atm": (339, "ATM", _atm),
    "limits": (330, "Limits", _limits),
}
