"""LuxOS: what its replies say. Pure. Source: docs.luxor.tech/firmware/api; captured replies (asic-rs)."""

from collections.abc import Sequence
from dataclasses import dataclass

from hcp_pipelines.devices.miner.fields import Json, hottest_chip, maybe, number, row, shown
from hcp_pipelines.devices.miner.telemetry import Telemetry
from hcp_pipelines.domain.errors import DeviceReplyError

POLL = "power+summary+config+stats"  # one connection
_AWAKE = ("none", "")


@dataclass(frozen=True, slots=True)
class LuxosProfile:
    """One of the power profiles that the machine has."""

    name: str
    power_w: float


def decode_poll(reply: Json) -> Telemetry:
    """The reading in the reply to `POLL`. Watts are measured where the power supply tells them (`PSU`)."""
    power = row(row(reply, "power"), "POWER")
    summary = row(row(reply, "summary"), "SUMMARY")
    return Telemetry(
        hash_rate_th_per_s=number(summary, "GHS 5s", "GHS 1m") / 1000,
        is_asleep=decode_is_asleep(row(row(reply, "config"), "CONFIG")),
        power_w=number(power, "Watts"),
        is_power_measured=power.get("PSU") is True,
        chip_temperature_celsius=_hottest(reply),
    )


def _hottest(reply: Json) -> float | None:
    """None where `stats` are none: power and hashrate are worth having without."""
    try:
        return hottest_chip(row(row(reply, "stats"), "STATS", 1))
    except DeviceReplyError:
        return None


def decode_is_asleep(configuration: Json) -> bool:
    """Whether the configuration says that it is curtailed."""
    mode = configuration.get("CurtailMode")
    if not isinstance(mode, str):
        raise DeviceReplyError(f"no CurtailMode in {shown(configuration)}")
    return mode.lower() not in _AWAKE


def decode_profile_name(reply: Json) -> str:
    """The configured profile, in the reply to `POLL`."""
    configuration = row(row(reply, "config"), "CONFIG")
    name = configuration.get("Profile")
    if not isinstance(name, str) or not name:
        raise DeviceReplyError(f"no Profile in {shown(configuration)}")
    return name


def decode_profiles(reply: Json) -> list[LuxosProfile]:
    """The profiles with a power, weakest first."""
    rows = reply.get("PROFILES")
    if not isinstance(rows, list) or not rows:
        raise DeviceReplyError(f"no PROFILES in {shown(reply)}")
    found = [
        LuxosProfile(str(one["Profile Name"]), watts)
        for one in rows
        if isinstance(one, dict) and "Profile Name" in one and (watts := maybe(one, "Watts")) is not None
    ]
    return sorted(found, key=lambda one: one.power_w)


def choose_profile(profiles: Sequence[LuxosProfile], power_w: float, tolerance: float = 0.02) -> LuxosProfile | None:
    """The strongest profile that draws at most that, a rounding aside; None where none does.

    >>> choose_profile([LuxosProfile("eco", 2800), LuxosProfile("default", 3500)], 3499.6).name
    'default'
    """
    fitting = [one for one in profiles if one.power_w <= power_w * (1 + tolerance)]
    return fitting[-1] if fitting else None


def decode_is_atm_on(reply: Json) -> bool:
    """Whether thermal management moves the profile."""
    return row(reply, "ATM").get("Enabled") is True


def decode_session(reply: Json) -> str:
    """The session's id; empty: there is none."""
    return str(row(reply, "SESSION").get("SessionID", ""))
