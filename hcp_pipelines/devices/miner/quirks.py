"""What differs from firmware to firmware and must be known to drive it: a named table, each row with what it rests on.

What a reply looks like is the codecs' work; they read every spelling at once. Here stands what has to be *done* differently.
"""

import re
from dataclasses import dataclass

from hcp_pipelines.devices.miner.telemetry import Dialect


@dataclass(frozen=True, slots=True)
class Quirk:
    """A difference: which firmware has it, what is done about it, and who says so."""

    name: str
    dialect: Dialect
    firmware: str
    remedy: str
    source: str


MODE_KEYS = Quirk(
    "mode-keys", Dialect.ANTMINER, "all; Dec 2022 listens to one key, 2025 wants both",
    "`miner-mode` and `bitmain-work-mode` are written together, with the whole configuration that was read",
    "asic-rs issues 245, 312",
)  # fmt: skip
SLOW_REPLY = Quirk(
    "slow-reply", Dialect.ANTMINER, "Dec 2022: set_miner_conf answers after about 21 s",
    "commands have a deadline of 30 s; what counts is the configuration read back", "asic-rs issue 245",
)  # fmt: skip
FALSE_ACK = Quirk(
    "false-ack", Dialect.ANTMINER, "S21+ of Feb 2025: sleep is answered OK and nothing happens",
    "the mode is read back after each command, the hashrate until the settling deadline", "asic-rs issue 310",
)  # fmt: skip
BLANK_MODE = Quirk(
    "blank-mode", Dialect.ANTMINER, "some: the mode is an empty text, or a text", "an empty text is normal, mode 0",
    "seen in captured replies",
)  # fmt: skip
WHOLE_CONFIGURATION = Quirk(
    "whole-configuration", Dialect.ANTMINER, "all, by pyasic 0.79: stop and resume write back what was half read",
    "the configuration is read and judged first; without a pool nothing is written", "proved on a socket",
)  # fmt: skip
NO_POWER_LIMIT = Quirk(
    "no-power-limit", Dialect.WHATSMINER_V2, "API below 2.0.5", "set_low_power and set_normal_power instead of a limit",
    "MicroBT's API 2 document, as pyasic has it (adjust_power_limit)",
)  # fmt: skip
OFF_IS_TEXT = Quirk(
    "off-is-text", Dialect.WHATSMINER_V2, 'API 1: `btmineroff`, API 2: `mineroff`; "false" is a text',
    "either key, compared as text", "asic-rs, captured replies",
)  # fmt: skip
WORN_TOKEN = Quirk(
    "worn-token", Dialect.WHATSMINER_V2, "a token ends after 30 minutes or 32 uses", "a new one, and once more",
    "MicroBT's API 2 document",
)  # fmt: skip
ONE_SESSION = Quirk(
    "one-session", Dialect.LUXOS, "all: one session at a time; pyasic takes over whoever's it finds and never logs off",
    "log on, command, log off; a session of somebody else's is waited for", "docs.luxor.tech, sessions",
)  # fmt: skip
ATM = Quirk(
    "atm", Dialect.LUXOS, "all: thermal management moves the profile that was set",
    "switched off around profileset, and on again whatever happens", "docs.luxor.tech, atmset",
)  # fmt: skip
TABLE = (
    MODE_KEYS, SLOW_REPLY, FALSE_ACK, BLANK_MODE, WHOLE_CONFIGURATION, NO_POWER_LIMIT, OFF_IS_TEXT, WORN_TOKEN, ONE_SESSION, ATM,
)  # fmt: skip

_POWER_LIMIT_SINCE = (2, 0, 5)


def takes_power_limit(api_version: str) -> bool:
    """Whether a WhatsMiner's API has adjust_power_limit; an unknown version is taken for a newer one.

    >>> takes_power_limit("1.4.0"), takes_power_limit("2.0.5"), takes_power_limit("")
    (False, True, True)
    """
    numbers = [int(text) for text in re.findall(r"[0-9]{1,9}", api_version[:100])[:3]]
    return not numbers or tuple(numbers) >= _POWER_LIMIT_SINCE


def markdown() -> str:
    """The table as docs/devices.md shows it."""
    head = "| quirk | dialect | firmware | what is done | source |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {q.name} | {q.dialect} | {q.firmware} | {q.remedy} | {q.source} |\n" for q in TABLE)
