"""Who answers: dialect, model, firmware, addresses of the hardware, from the replies to `version` and its like. Pure.

Nothing here needs pyasic: a first look at a quarter of a million addresses must be quick. Models stand as the device tells them;
`model_name` is how the model table calls them.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hcp_pipelines.devices.miner.fields import Json
from hcp_pipelines.devices.miner.telemetry import Dialect

V3_SINCE = 20241100  # firmware dates from which on a WhatsMiner speaks API 3 (pyasic issues 363, 396)
_MARKS = (
    ("LUXMINER", Dialect.LUXOS), ("BOSMINER", Dialect.BRAIINS), ("BOSER", Dialect.BRAIINS), ("VNISH", Dialect.VNISH),
    ("BTMINER", Dialect.WHATSMINER_V2), ("BITMICRO", Dialect.WHATSMINER_V2), ("ANTMINER", Dialect.ANTMINER),
    ("BMMINER", Dialect.ANTMINER),
)  # fmt: skip
_REPAIRS = (("}{", "},{"), (",}", "}"), ("\n", ""))  # what firmware leaves out or in


@dataclass(frozen=True, slots=True)
class Identity:
    """Of one device. Empty: not told, or not asked for."""

    dialect: Dialect
    model: str = ""
    firmware: str = ""
    api_version: str = ""
    mac: str = ""
    serial: str = ""


def parse(data: bytes) -> Json | None:
    """A reply as JSON, common faults repaired; None where that does not help."""
    text = data.decode(errors="replace")
    for broken, mended in _REPAIRS:
        text = text.replace(broken, mended)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None


def dialect_of(data: bytes) -> Dialect | None:
    """The dialect that a reply to `version` or `devdetails` gives away; None: it doesn't."""
    upper = data.decode(errors="replace").upper()
    return next((dialect for mark, dialect in _MARKS if mark in upper), None)


def decode_version(reply: Json, dialect: Dialect) -> Identity:
    """From `version`: LuxOS and its like name themselves, stock has the day it was compiled."""
    version = _first(reply, "VERSION")
    named = [_text(version, key) for key in ("LUXminer", "Miner", "BOSminer", "CompileTime")]
    firmware = _text(version, "CompileTime") if dialect is Dialect.ANTMINER else next((n for n in named if n), "")
    return Identity(dialect, _text(version, "Type"), firmware, _text(version, "API"))


def decode_get_version(reply: Json) -> Identity | None:
    """From a WhatsMiner's `get_version`: the firmware's date says which API; None: it is no WhatsMiner's."""
    said = reply.get("Msg")
    if not isinstance(said, Mapping) or "fw_ver" not in said:
        return None
    firmware, api = _text(said, "fw_ver").strip("'"), _text(said, "api_ver", "rpc_ver")
    is_v3 = api.startswith("3") or _date(firmware) >= V3_SINCE
    return Identity(Dialect.WHATSMINER_V3 if is_v3 else Dialect.WHATSMINER_V2, "", firmware, api)


def decode_devdetails_model(reply: Json) -> str:
    """The model in `devdetails`."""
    return _text(_first(reply, "DEVDETAILS"), "Model")


def decode_device_info(reply: Json) -> Identity | None:
    """From API 3's `get.device.info`; None: it is none."""
    said = reply.get("msg")
    if not isinstance(said, Mapping) or not isinstance(said.get("miner"), Mapping):
        return None
    system, network = _object(said, "system"), _object(said, "network")
    return Identity(
        Dialect.WHATSMINER_V3,
        model=_text(said["miner"], "type"),
        firmware=_text(system, "fwversion"),
        api_version=_text(system, "api"),
        mac=normal_mac(_text(network, "mac")),
        serial=_text(said["miner"], "miner-sn"),
    )


def decode_mac(reply: Json, dialect: Dialect) -> tuple[str, str]:
    """(MAC, serial number): LuxOS `config`, WhatsMiner `get_miner_info`, stock `get_system_info.cgi`."""
    if dialect is Dialect.LUXOS:
        found = _first(reply, "CONFIG")
    elif dialect is Dialect.WHATSMINER_V2:
        found = _object(reply, "Msg")
    else:
        found = reply
    mac = _text(found, "MACAddr", "mac", "macaddr")
    return normal_mac(mac), _text(found, "SerialNumber", "minersn", "serinum", "serial_no")


def normal_mac(text: str) -> str:
    """A MAC as twelve digits in pairs, upper case; empty where it is none.

    >>> normal_mac("02:48:7f:10-00-01"), normal_mac("n/a")
    ('02:48:7F:10:00:01', '')
    """
    digits = re.sub(r"[^0-9A-Fa-f]", "", text).upper()
    return ":".join(digits[n : n + 2] for n in range(0, 12, 2)) if len(digits) == 12 else ""


def model_name(told: str) -> str:
    """A model as the model table names it: without the maker, and a WhatsMiner without its variant.

    >>> model_name("Antminer S19 XP"), model_name("M60S_VK30"), model_name("Antminer S21 (Vnish 1.2.6)")
    ('S19 XP', 'M60S', 'S21')
    """
    name = re.sub(r"^(bitmain\s+)?antminer\s+", "", told.split(" (")[0].strip(), flags=re.IGNORECASE)
    return re.sub(r"_?V[A-Z]?\d+$", "", name)


def _date(firmware: str) -> int:
    digits = re.match(r"\d{8}", firmware)
    return int(digits[0]) if digits else 0


def _first(reply: Json, name: str) -> Json:
    rows = reply.get(name)
    return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], Mapping) else {}


def _object(reply: Json, name: str) -> Json:
    value: Any = reply.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(values: Json, *names: str) -> str:
    return next((str(values[name]) for name in names if values.get(name) not in (None, "")), "")
