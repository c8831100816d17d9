"""Firmware profiles: which dialect a miner speaks, and the quirks of each version, as a named table.

A group of `world.yaml` names one as FAMILY or FAMILY@VERSION. Families without a dialect here answer as stock Antminers, versions
that are not here as their family.
Sources: what owners of real machines reported (asic-rs issues 105, 245, 249, 310, 312, 321, 325, 328; pyasic issues 363, 396),
and their captured replies. Versions without a date of their own are named after the quirk.
"""

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Final

log = logging.getLogger("world.miners")


class Dialect(Enum):
    """The protocols served."""

    ANTMINER = "antminer"
    WHATSMINER = "whatsminer"
    WHATSMINER_V3 = "whatsminer-v3"
    LUXOS = "luxos"


class Mode(Enum):
    """How a stock Antminer writes its work mode."""

    NUMBER = "number"
    TEXT = "text"
    BLANK = "blank"


@dataclass(frozen=True, slots=True)
class Firmware:
    """One firmware version. The defaults are those of a version without quirks."""

    name: str
    dialect: Dialect
    version: str
    # Stock Antminer.
    mode_as: Mode = Mode.NUMBER
    mode_keys: tuple[str, ...] = ("miner-mode", "bitmain-work-mode")  # keys that are listened to when writing
    needs_every_key: bool = False  # one of them alone is answered OK and does nothing
    takes_partial_bodies: bool = True  # else a body without pools is answered OK and does nothing
    ignores_writes: bool = False  # sleep, pools and reboot are answered OK and do nothing
    config_reply_s: float = 0.0  # simulated seconds until set_miner_conf answers
    numbers_as_text: bool = False
    stats_without_comma: bool = False
    has_new_api: bool = True
    reports_power: bool = False
    has_miner_type: bool = True
    serial_key: str = "serinum"
    splits_pcb_sensors: bool = False  # temp_in_pcb_N and temp_out_pcb_N instead of temp_pcbN
    board_code: str = ""  # given as Type instead of the model
    takes_joined: bool = True
    # WhatsMiner.
    api: str = "2.0.5"
    off_key: str = "mineroff"
    quotes_version: bool = False
    broken_text: bool = False  # a comma before a brace, a newline in a text, no comma before temp0
    errors_as: str = "dicts"  # dicts, numbers, or texts: a list written like a dict
    has_minute_rate: bool = True
    asleep_power_w: int = 0
    replies_before_reboot: bool = True
    has_4028: bool = True
    # LuxOS.
    names_miner: bool = True
    measures_power: bool = True

    @property
    def is_whatsminer(self) -> bool:
        """Whether it is a WhatsMiner, of either version."""
        return self.dialect in {Dialect.WHATSMINER, Dialect.WHATSMINER_V3}


_A, _W, _W3, _L = Dialect.ANTMINER, Dialect.WHATSMINER, Dialect.WHATSMINER_V3, Dialect.LUXOS
_DEC_2022: Final = "Mon Dec 26 17:10:01 CST 2022"
_JUL_2023: Final = "Sat Jul 15 10:12:08 CST 2023"

_TABLE: Final = (
    Firmware("stock", _A, _JUL_2023),
    Firmware(
        "stock@2022-12", _A, _DEC_2022, mode_as=Mode.TEXT, mode_keys=("miner-mode",), takes_partial_bodies=False,
        config_reply_s=21.0, numbers_as_text=True, stats_without_comma=True, has_new_api=False, has_miner_type=False,
    ),
    Firmware("stock@2023-07", _A, _JUL_2023),
    Firmware("stock@2025-02", _A, "Fri Feb 21 11:30:42 CST 2025", ignores_writes=True),
    Firmware(
        "stock@2025-10", _A, "Wed Oct 15 09:02:17 CST 2025", needs_every_key=True, reports_power=True,
        serial_key="serial_no", splits_pcb_sensors=True,
    ),
    Firmware("stock@blank-mode", _A, _JUL_2023, mode_as=Mode.BLANK),
    Firmware("stock@board-code", _A, _JUL_2023, board_code="Antminer BHB68601"),
    Firmware("stock@no-joined", _A, _JUL_2023, takes_joined=False),
    Firmware("whatsminer", _W, "20230714.15.REL"),
    Firmware(
        "whatsminer@1", _W, "20210322.22.REL", api="1.4.0", off_key="btmineroff", quotes_version=True,
        errors_as="numbers", replies_before_reboot=False,
    ),
    Firmware("whatsminer@2.0.4", _W, "20220817.12.REL", api="2.0.4", errors_as="texts"),
    Firmware("whatsminer@2023-01", _W, "20230106.11.REL", broken_text=True),
    Firmware("whatsminer@sparse", _W, "20230911.12.REL", has_minute_rate=False, asleep_power_w=-1),
    Firmware("whatsminer-v3", _W3, "20250115.07.REL1", api="3.0.1"),
    Firmware("whatsminer-v3@closed-4028", _W3, "20250115.07.REL1", api="3.0.1", has_4028=False),
    Firmware("luxos", _L, "2025.4.8.220305-3afaf1f0"),
    Firmware("luxos@2024-01", _L, "2024.1.26.143259-2d8448bf", names_miner=False),
    Firmware("luxos@estimate", _L, "2025.4.8.220305-3afaf1f0", measures_power=False),
)  # fmt: skip

FIRMWARES: Final = {one.name: one for one in _TABLE}


def firmware_named(name: str) -> Firmware:
    """The profile of that name; of an unknown version its family's, of an unknown family stock's, with a line in the log.

    Never an error: what one site's file names must not stop the world of all the others.
    """
    if name in FIRMWARES:
        return FIRMWARES[name]
    instead = FIRMWARES.get(name.split("@")[0], FIRMWARES["stock"])
    log.warning("firmware %r is not served (docs/protocols.md); its miners answer as %s", name, instead.name)
    return instead
