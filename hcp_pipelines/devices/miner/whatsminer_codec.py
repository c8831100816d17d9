"""WhatsMiner, API 2 and 3: what their replies say. Pure. Source: MicroBT's API documents; captured replies (asic-rs)."""

from typing import Any

from hcp_pipelines.devices.miner.fields import Json, maybe, number, part, row, shown
from hcp_pipelines.devices.miner.telemetry import Telemetry
from hcp_pipelines.domain.errors import DeviceReplyError
from hcp_pipelines.domain.modes import DeviceState

_OFF_KEYS = ("mineroff", "btmineroff")  # API 2, API 1
_LOW = "low"
_WORDS = {"true": True, "false": False}


def decode_summary(reply: Json) -> Telemetry:
    """API 2: the reading in `summary`. Asleep, some versions read 0 W and some −1: neither is a measurement.

    Low mode is a state whatever the limit; in the other modes the limit says which.
    """
    summary = row(reply, "SUMMARY")
    power_w = maybe(summary, "Power_RT", "Power")
    is_measured = power_w is not None and power_w > 0
    return Telemetry(
        hash_rate_th_per_s=number(summary, "MHS 5s", "HS RT", "MHS 1m", "MHS av") / 1e6,
        power_w=power_w if is_measured else None,
        is_power_measured=is_measured,
        profile_w=maybe(summary, "Power Limit"),
        state_told=DeviceState.MINING_ECO if str(summary.get("Power Mode")).lower() == _LOW else None,
        chip_temperature_celsius=maybe(summary, "Chip Temp Avg"),
    )


def decode_status(reply: Json) -> bool:
    """API 2: whether it is off, in the reply to `status`."""
    said = part(reply, "Msg")
    for key in _OFF_KEYS:
        if key in said:
            return _word(said[key], said)
    raise DeviceReplyError(f"neither {' nor '.join(_OFF_KEYS)} in {shown(said)}")


def decode_v3_summary(reply: Json) -> Telemetry:
    """API 3: the reading in `get.miner.status`, param `summary`."""
    summary = part(decode_v3(reply), "summary")
    power_w = maybe(summary, "power-realtime")
    is_measured = power_w is not None and power_w > 0
    return Telemetry(
        hash_rate_th_per_s=number(summary, "hash-realtime", "hash-1min", "hash-average"),
        power_w=power_w if is_measured else None,
        is_power_measured=is_measured,
        profile_w=maybe(summary, "power-limit"),
        chip_temperature_celsius=maybe(summary, "chip-temp-avg"),
    )


def decode_v3_working(reply: Json) -> bool:
    """API 3: whether it works, in the reply to `get.device.info`."""
    about = part(decode_v3(reply), "miner")
    if "working" not in about:
        raise DeviceReplyError(f"no working in {shown(about)}")
    return _word(about["working"], about)


def decode_v3(reply: Json) -> Json:
    """API 3: the `msg` of a reply that says ok.

    Raises:
        DeviceReplyError: its code is another one, or there is no object.
    """
    if reply.get("code") != 0:
        raise DeviceReplyError(f"code {reply.get('code')!r}: {shown(reply.get('msg'))}")
    return part(reply, "msg")


def _word(value: Any, where: Json) -> bool:
    """A truth that may come as a text: "false" is not true."""
    said = _WORDS.get(str(value).strip().lower())
    if said is None:
        raise DeviceReplyError(f"{value!r} is neither true nor false in {shown(where)}")
    return said
