"""What both APIs of a WhatsMiner say in the same way: profile, power, power supply, error codes. No protocol here."""

from typing import Final

from simulators.clock import iso
from simulators.miners.miner import Miner
from simulators.miners.report import ECO, Report

_FAN_ERROR, _BOARD_ERROR = 110, 530
_PSU_RPM: Final = 6720


def power_mode(report: Report, miner: Miner) -> str:
    """The profile's name; there is none above Normal in this world."""
    state = report.state if report.is_mining else miner.memory.mining_state
    return "Low" if state == ECO else "Normal"


def power_limit_w(miner: Miner) -> int:
    """The limit that was set, or the machine's own power."""
    own_w = round(max((one.power_w for one in miner.group.states), default=0.0))
    return miner.memory.power_limit_w or own_w


def power_w(miner: Miner, report: Report) -> int:
    """Watts as the power supply reads them; one that is off reads what its firmware makes of nothing."""
    is_on = report.is_mining or report.rate_ghs > 0
    return round(report.power_w) if is_on else miner.firmware.asleep_power_w


def errors(report: Report) -> list[tuple[int, str]]:
    """Error codes with their reasons."""
    found = [
        (_BOARD_ERROR + board.number, f"Slot{board.number} not found.") for board in report.boards if board.is_dead
    ]
    return found + ([(_FAN_ERROR, "Fanin detect speed error.")] if report.has_fan_failure else [])


def error_time(report: Report) -> str:
    """When a fault was found, as the firmware writes it: this day's beginning."""
    return iso(report.now_s - report.now_s % 86_400)[:19].replace("T", " ")


def psu_fan(report: Report) -> int:
    """Speed of the power supply's own fan, per minute."""
    return _PSU_RPM if report.is_mining else 0
