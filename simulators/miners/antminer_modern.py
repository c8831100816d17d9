"""The newer shape of a stock Antminer's figures, which port 4028 (`"new_api": true`) and the web pages share.

Fields as in captured replies of S21 and S23 machines (asic-rs).
"""

from collections.abc import Callable
from typing import Any, Final

from simulators.miners.miner import Miner
from simulators.miners.report import Board, Report
from simulators.miners.rows import chip_map, used_pools
from simulators.work import SHARE_DIFFICULTY

Json = dict[str, Any]
_MODES: Final = {0: 1, 1: 1, 2: 3, 3: 0}


def modern(miner: Miner, report: Report, command: str) -> Json:
    """The newer shape, which port 4028 and the web pages share."""
    makers: dict[str, tuple[str, Callable[[], list[Json]]]] = {
        "stats": ("STATS", lambda: [_modern_stats(miner, report)]),
        "summary": ("SUMMARY", lambda: [_modern_summary(report)]),
        "pools": ("POOLS", lambda: _modern_pools(miner, report)),
    }
    head: Json = {
        "STATUS": {"STATUS": "S", "when": report.now_s, "Msg": command, "api_version": "1.0.0"},
        "INFO": {
            "miner_version": "uart_trans.1.3",
            "CompileTime": miner.firmware.version,
            "type": miner.hardware.type,
        },
    }
    if command == "warning":
        return head | {"WARNING": [one for one in conditions(report) if one["status"] != "s"]}
    if command not in makers:
        return head | {"STATUS": head["STATUS"] | {"STATUS": "E", "Msg": "Invalid command"}}
    name, make = makers[command]
    return head | {name: make()}


def conditions(report: Report) -> list[Json]:
    """What the machine finds wrong with itself, by kind; "s" is well."""
    found = {
        "rate": "missing hash board" if any(board.is_dead for board in report.boards) else "",
        "network": "",
        "fans": "fan lost" if report.has_fan_failure else "",
        "temp": "",
    }
    return [
        {"type": kind, "status": "e" if text else "s", "code": 1 if text else 0, "msg": text}
        for kind, text in found.items()
    ]


def work_mode(state: int) -> int:
    """Bitmain's number of a state: 0 normal, 1 sleep, 3 low power."""
    return _MODES.get(state, 0)


def _modern_stats(miner: Miner, report: Report) -> Json:
    power = {"power": round(report.power_w)} if miner.firmware.reports_power else {}
    return {
        "elapsed": report.elapsed_s,
        "rate_5s": round(report.rate_ghs, 2),
        "rate_30m": round(report.rate_ghs, 2),
        "rate_avg": round(report.rate_ghs, 2),
        "rate_ideal": round(report.ideal_ghs, 2),
        "rate_unit": "GH/s",
        "chain_num": len(report.boards),
        "fan_num": len(report.fans),
        "fan": list(report.fans),
        "hwp_total": 0.0,
        "miner-mode": work_mode(report.state),
        "freq-level": 100,
        **power,
        "chain": [_modern_chain(miner, report, board) for board in report.boards if not board.is_dead],
    }


def _modern_chain(miner: Miner, report: Report, board: Board) -> Json:
    return {
        "index": board.number,
        "freq_avg": report.frequency_mhz if report.is_mining else 0,
        "rate_ideal": round(board.ideal_ghs, 2),
        "rate_real": round(board.rate_ghs, 2),
        "asic_num": board.chips,
        "asic": chip_map(board.chips),
        "temp_pic": list(board.pcb_c),
        "temp_pcb": list(board.pcb_c),
        "temp_chip": list(board.chip_c),
        "hw": board.hardware_errors,
        "eeprom_loaded": True,
        "sn": miner.identity.board_serial(board.number),
        "hwp": 0.0,
    }


def _modern_summary(report: Report) -> Json:
    return {
        "elapsed": report.elapsed_s,
        "rate_5s": round(report.rate_ghs, 2),
        "rate_30m": round(report.rate_ghs, 2),
        "rate_avg": round(report.rate_ghs, 2),
        "rate_ideal": round(report.ideal_ghs, 2),
        "rate_unit": "GH/s",
        "hw_all": report.hardware_errors,
        "bestshare": 0,
        "status": conditions(report),
    }


def _modern_pools(miner: Miner, report: Report) -> list[Json]:
    return [
        {
            "index": number,
            "url": pool.url,
            "user": pool.user,
            "status": "Alive" if report.has_work or not report.is_mining else "Dead",
            "priority": number,
            "getworks": report.elapsed_s // 30 if position == 0 else 0,
            "accepted": report.accepted if position == 0 else 0,
            "rejected": report.rejected if position == 0 else 0,
            "discarded": 0,
            "stale": 0,
            "diff": "131K",
            "diffa": report.accepted * SHARE_DIFFICULTY if position == 0 else 0,
            "diffr": report.rejected * SHARE_DIFFICULTY if position == 0 else 0,
            "lstime": "0:00:02" if position == 0 and report.rate_ghs > 0 else "0",
        }
        for position, (number, pool) in enumerate(used_pools(miner))
    ]
