"""Stock Antminer: what its replies say, and the configuration that is written back. Pure.

Nothing is written but what was read whole: a configuration without a pool, or one that was half read, is refused here.
Source: captured replies and issues 245, 249, 310, 312 of asic-rs; the payload that the machine's own page posts.
"""

from collections.abc import Mapping
from typing import Any

from hcp_pipelines.devices.miner.fields import Json, hottest_chip, maybe, number, row, shown
from hcp_pipelines.devices.miner.telemetry import Telemetry
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError
from hcp_pipelines.domain.modes import DeviceState

MODE_OF_STATE = {DeviceState.MINING_FULL: 0, DeviceState.CURTAILED: 1, DeviceState.MINING_ECO: 3}
STATE_OF_MODE = {mode: state for state, mode in MODE_OF_STATE.items()}
READ_KEY, WRITE_KEY = "bitmain-work-mode", "miner-mode"
_HIGH_MODE = 2  # the firmware's own; drawn as full
_NEEDED = ("pools", "bitmain-fan-ctrl", "bitmain-fan-pwm")  # what a whole configuration has at least
_DONE = "M000"


def decode_stats(reply: Json) -> Telemetry:
    """The reading in port 4028's `stats`, asked for with `new_api`: older firmware doesn't know the flag and answers as ever.

    The newer shape has the mode too, and on some models a power figure (asic-rs issues 325, 328).
    """
    stats = row(reply, "STATS")
    if "rate_5s" not in stats:
        older = row(reply, "STATS", 1)
        rate = number(older, "GHS 5s", "GHS av") / 1000
        return Telemetry(hash_rate_th_per_s=rate, chip_temperature_celsius=hottest_chip(older))
    state = _state(stats, WRITE_KEY) if WRITE_KEY in stats else None
    return Telemetry(
        hash_rate_th_per_s=number(stats, "rate_5s") / 1000,
        is_asleep=None if state is None else state is DeviceState.CURTAILED,
        state_told=state,
        power_w=maybe(stats, "power", "watt"),
        chip_temperature_celsius=hottest_chip(stats),
    )


def decode_configuration(reply: Json) -> Json:
    """A configuration as it was read, judged.

    Raises:
        DeviceReplyError: it is not whole, or has no pool: writing it back would do harm.
    """
    missing = [key for key in _NEEDED if key not in reply]
    if missing or READ_KEY not in reply:
        raise DeviceReplyError(f"a half-read configuration, without {', '.join(missing or [READ_KEY])}: {shown(reply)}")
    if not isinstance(reply["pools"], list) or not all(isinstance(pool, Mapping) for pool in reply["pools"]):
        raise DeviceReplyError(f"pools that are none: {shown(reply['pools'])}")
    decode_state(reply)
    return reply


def has_pool(configuration: Json) -> bool:
    """Whether there is a pool to work for."""
    return any(pool.get("url") for pool in configuration["pools"])


def decode_state(configuration: Json) -> DeviceState:
    """The state its mode stands for; a blank mode is normal, the firmware's high mode is full.

    >>> decode_state({"bitmain-work-mode": ""}), decode_state({"bitmain-work-mode": "1"})
    (<DeviceState.MINING_FULL: 3>, <DeviceState.CURTAILED: 0>)
    """
    return _state(configuration, READ_KEY)


def encode_configuration(configuration: Json, state: DeviceState, remembered: Json) -> dict[str, Any]:
    """What to post: the configuration that was read, with another mode, and the remembered pools where it has lost its own.

    Raises:
        DeviceReplyError: neither has a pool: it would wake and have nothing to do, or lose the last it had.
    """
    whole = dict(configuration)
    if not has_pool(whole) and remembered.get("pools") and has_pool(remembered):
        whole["pools"] = remembered["pools"]
    if not has_pool(whole):
        raise DeviceReplyError(f"a configuration without a pool is not written back: {shown(whole['pools'])}")
    mode = MODE_OF_STATE[state]
    return whole | {WRITE_KEY: mode, READ_KEY: mode}


def check_written(reply: Json) -> None:
    """Take the answer to a write.

    Raises:
        DeviceRefusedError: it is not the firmware's word for done.
    """
    if reply.get("code") != _DONE:
        raise DeviceRefusedError(f"the configuration was not taken: {shown(reply)}")


def _state(values: Json, key: str) -> DeviceState:
    said = values.get(key)
    mode = 0 if said == "" else maybe(values, key)
    state = None if mode is None else STATE_OF_MODE.get(0 if mode == _HIGH_MODE else int(mode))
    if state is None:
        raise DeviceReplyError(f"{key} is {said!r}; known are 0 to 3")
    return state
