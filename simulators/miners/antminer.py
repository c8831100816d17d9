"""Stock Antminer on port 4028: what bmminer answers, and the quirks of its versions. The newer shape is in `antminer_modern`.

Writes are not here: a stock machine is controlled over its web pages only (`antminer_web`). Fields as in captured replies of
S19, S21 and S23 machines (asic-rs); codes as in cgminer's API.
"""

from collections.abc import Callable
from typing import Any, Final

from simulators.miners.antminer_modern import modern
from simulators.miners.cgminer import INVALID_COMMAND, INVALID_JSON, NO_COMMAND, Json, Reply, dump, join, status
from simulators.miners.miner import Miner
from simulators.miners.plain_text import text_of
from simulators.miners.report import Board, Report
from simulators.miners.rows import chip_map, dashed, pool_rows, summary_row, used_pools

_BMMINER: Final = "1.0.0"
_ABOUT: Final = f"cgminer {_BMMINER}"
_SLOTS: Final = 4


def answer(miner: Miner, request: Json) -> Reply:
    """The reply to one request, joined commands and `new_api` included."""
    command = request.get("command")
    if not isinstance(command, str):
        return Reply(_error(miner, NO_COMMAND, "Missing JSON 'command'"))
    report = miner.report()
    if request.get("new_api") is True and miner.firmware.has_new_api:
        return Reply(dump(modern(miner, report, command)))
    names = command.split("+")
    if len(names) == 1:
        return Reply(_text(miner, _classic(miner, report, command)))
    if not miner.firmware.takes_joined:
        return Reply(_error(miner, INVALID_COMMAND, "Invalid command"))
    return Reply(_text(miner, join(names, lambda name: _classic(miner, report, name))))


def in_text(miner: Miner, command: str) -> Reply:
    """The reply to a command in text."""
    report, names = miner.report(), command.split("+")
    if len(names) == 1:
        return Reply(text_of(_classic(miner, report, command)))
    if not miner.firmware.takes_joined:
        return Reply(text_of(_error_value(INVALID_COMMAND, "Invalid command", report.now_s)))
    return Reply(text_of(join(names, lambda name: _classic(miner, report, name))))


def refusal(miner: Miner, _problem: str) -> bytes:
    """The reply to what is no request."""
    return _error(miner, INVALID_JSON, "Invalid JSON")


def _classic(miner: Miner, report: Report, command: str) -> Json:
    makers: dict[str, tuple[int, str, str, Callable[[], list[Json]]]] = {
        "version": (22, "CGMiner versions", "VERSION", lambda: [_version(miner)]),
        "summary": (11, "Summary", "SUMMARY", lambda: [summary_row(report)]),
        "stats": (70, "CGMiner stats", "STATS", lambda: [_version(miner), _stats(miner, report)]),
        "estats": (70, "CGMiner stats", "STATS", lambda: [_version(miner), _stats(miner, report)]),
        "pools": (7, f"{len(used_pools(miner))} Pool(s)", "POOLS", lambda: pool_rows(miner, report)),
        "devs": (9, f"{len(report.boards)} ASC(s)", "DEVS", lambda: [_dev(report, board) for board in report.boards]),
    }
    if command not in makers:
        return _error_value(INVALID_COMMAND, "Invalid command", report.now_s)
    code, text, name, make = makers[command]
    return {"STATUS": [status(code, text, _ABOUT, report.now_s)], name: make(), "id": 1}


def _version(miner: Miner) -> Json:
    return {
        "BMMiner": _BMMINER,
        "API": "3.1",
        "Miner": "uart_trans.1.3",
        "CompileTime": miner.firmware.version,
        "Type": miner.firmware.board_code or miner.hardware.type,
    }


def _stats(miner: Miner, report: Report) -> Json:
    values: Json = {
        "STATS": 0,
        "ID": "BTM_SOC0",
        "Elapsed": report.elapsed_s,
        "Calls": 0,
        "Wait": 0.0,
        "Max": 0.0,
        "Min": 99999999.0,
        "GHS 5s": round(report.rate_ghs, 2),
        "GHS av": round(report.rate_ghs, 2),
        "rate_30m": round(report.rate_ghs, 2),
        "Mode": 2,
        "miner_count": sum(not board.is_dead for board in report.boards),
        "frequency": report.frequency_mhz if report.is_mining else 0,
        "fan_num": len(report.fans),
        **{f"fan{index + 1}": speed for index, speed in enumerate(report.fans)},
        "temp_num": len(report.boards),
        **{f"temp{board.number + 1}": 0 if board.is_dead else max(board.pcb_c) for board in report.boards},
        **{f"temp2_{board.number + 1}": 0 if board.is_dead else max(board.chip_c) for board in report.boards},
        "temp_max": max(max(board.chip_c) for board in report.boards),
        "total_rateideal": round(report.ideal_ghs, 2),
        "rate_unit": "GH",
        "total_freqavg": report.frequency_mhz if report.is_mining else 0,
        "total_acn": sum(board.chips for board in report.boards),
        "total rate": round(report.rate_ghs, 2),
        "no_matching_work": report.hardware_errors,
        "miner_version": "uart_trans.1.3",
        "miner_id": miner.identity.serial,
    }
    for slot in range(_SLOTS):
        board = report.boards[slot] if slot < len(report.boards) else None
        values |= _chain(miner, report, slot + 1, board)
    return values


def _chain(miner: Miner, report: Report, number: int, board: Board | None) -> Json:
    if board is None or board.is_dead:
        return {
            f"chain_acn{number}": 0, f"chain_acs{number}": "", f"chain_hw{number}": 0, f"chain_rate{number}": "",
            f"freq{number}": 0, f"temp_chip{number}": "0-0-0-0", f"temp_pcb{number}": "0-0-0-0", f"temp_pic{number}": "0-0-0-0",
        }  # fmt: skip
    pcb = dashed(board.pcb_c)
    sensors = {f"temp_pcb{number}": pcb}
    if miner.firmware.splits_pcb_sensors:
        sensors = {f"temp_in_pcb_{number}": dashed(board.pcb_c[:2]), f"temp_out_pcb_{number}": dashed(board.pcb_c[2:])}
    return {
        f"chain_acn{number}": board.chips,
        f"chain_acs{number}": chip_map(board.chips),
        f"chain_hw{number}": board.hardware_errors,
        f"chain_rate{number}": f"{board.rate_ghs:.2f}",
        f"freq{number}": report.frequency_mhz if report.is_mining else 0,
        f"temp_chip{number}": dashed(board.chip_c),
        f"temp_pic{number}": pcb,
        **sensors,
    }


def _dev(report: Report, board: Board) -> Json:
    return {
        "ASC": board.number,
        "Name": "BTM_SOC",
        "ID": board.number,
        "Enabled": "Y",
        "Status": "Dead" if board.is_dead else "Alive",
        "Temperature": float(max(board.pcb_c)),
        "MHS av": round(1000.0 * board.rate_ghs, 2),
        "MHS 5s": round(1000.0 * board.rate_ghs, 2),
        "Accepted": report.accepted // len(report.boards),
        "Rejected": report.rejected // len(report.boards),
        "Hardware Errors": board.hardware_errors,
        "Device Elapsed": report.elapsed_s,
    }


def _error(miner: Miner, code: int, text: str) -> bytes:
    return dump(_error_value(code, text, int(miner.now_s)))


def _error_value(code: int, text: str, when: int) -> Json:
    return {"STATUS": [status(code, text, _ABOUT, when, "E")], "id": 1}


def _text(miner: Miner, reply: Json) -> bytes:
    """The reply as this version writes it."""
    firmware = miner.firmware
    if firmware.numbers_as_text:
        _stringify(reply)
    text = dump(reply)
    return text.replace(b'},{"STATS":0', b'}{"STATS":0') if firmware.stats_without_comma else text


def _stringify(value: Any) -> None:
    """Rates as texts, in every object."""
    if isinstance(value, list):
        for one in value:
            _stringify(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name in {"GHS 5s", "GHS av"}:
                value[name] = str(one)
            else:
                _stringify(one)
