"""The web pages of a stock Antminer: CGI behind digest authentication, which is where such a machine is controlled.

`set_miner_conf.cgi` is where false acks come from: what a version listens to is in its `Firmware`; the reply is OK all the same.
Source: asic-rs issues 245, 249, 310 and 312; the payload that the machine's own page posts.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from simulators.fleet import CURTAILED
from simulators.miners import digest
from simulators.miners.antminer_modern import modern, work_mode
from simulators.miners.firmware import Mode
from simulators.miners.memory import Pool
from simulators.miners.miner import Miner
from simulators.miners.report import ECO, FULL
from simulators.miners.web import Request, Response, page

Json = dict[str, Any]
_STATES: Final = {"0": FULL, "1": CURTAILED, "3": ECO}
_FAN_KEYS: Final = ("bitmain-fan-ctrl", "bitmain-fan-pwm")
_OK: Final = {"stats": "success", "code": "M000", "msg": "OK!"}
_BAD_POOLS: Final = {"stats": "error", "code": "M001", "msg": "Invalid pool!"}


def serve(miner: Miner, request: Request) -> Response:
    """The response to one request; without the password only the challenge."""
    header = request.headers.get("authorization", "")
    if not digest.is_authorised(header, request.method, request.target, miner.address):
        return page(401, ("WWW-Authenticate", digest.challenge(miner.address)))
    if request.path in {"/", "/index.html"}:
        return Response(200, b"<html><head><title>Miner</title></head><body></body></html>")
    name = request.path.removeprefix("/cgi-bin/").removesuffix(".cgi")
    if name not in _PAGES or not request.path.startswith("/cgi-bin/"):
        return page(404)
    if name in _WRITES:
        miner.keep()
    return _PAGES[name](miner, request)


def _figures(miner: Miner, request: Request) -> Response:
    name = request.path.removeprefix("/cgi-bin/").removesuffix(".cgi")
    return _json(modern(miner, miner.report(), name))


def _system_info(miner: Miner, _request: Request) -> Response:
    return _json(
        {
            "minertype": miner.hardware.type,
            **_network(miner),
            "gateway": "",
            "dnsservers": "",
            "system_mode": "GNU/Linux",
            "system_kernel_version": "Linux 4.6.0-xilinx-gff8137b-dirty",
            "system_filesystem_version": miner.firmware.version,
            "firmware_type": "Release",
            "Algorithm": "sha256d",
            miner.firmware.serial_key: miner.identity.serial,
        }
    )


def _network_info(miner: Miner, _request: Request) -> Response:
    configured = dict.fromkeys(("conf_ipaddress", "conf_netmask", "conf_gateway", "conf_dnsservers"), "")
    return _json(_network(miner) | {"conf_nettype": "DHCP", "conf_hostname": miner.identity.hostname} | configured)


def _miner_type(miner: Miner, _request: Request) -> Response:
    if not miner.firmware.has_miner_type:
        return page(404)
    return _json(
        {"miner_type": miner.hardware.type, "subtype": "AMLCtrl_BHB68XXX", "fw_version": miner.firmware.version}
    )


def _get_conf(miner: Miner, _request: Request) -> Response:
    number = work_mode(miner.report().state)
    modes: dict[Mode, int | str] = {
        Mode.NUMBER: number,
        Mode.TEXT: str(number),
        Mode.BLANK: "" if number == 0 else str(number),
    }
    settings = miner.memory.settings
    return _json(
        {
            "pools": [{"url": pool.url, "user": pool.user, "pass": pool.password} for pool in miner.pools],
            "api-listen": True,
            "api-network": True,
            "api-groups": "A:stats:pools:devs:summary:version",
            "api-allow": "A:0/0,W:*",
            "bitmain-fan-ctrl": settings.get("bitmain-fan-ctrl") == "true",
            "bitmain-fan-pwm": settings.get("bitmain-fan-pwm", "100"),
            "bitmain-use-vil": True,
            "bitmain-freq": str(miner.hardware.frequency_mhz),
            "bitmain-voltage": str(round(100 * miner.hardware.voltage_v)),
            "bitmain-ccdelay": "0",
            "bitmain-pwth": "0",
            "bitmain-work-mode": modes[miner.firmware.mode_as],
            "bitmain-freq-level": "100",
        }
    )


def _set_conf(miner: Miner, request: Request) -> Response:
    after_s = miner.firmware.config_reply_s / miner.hall.clock.speed
    wanted = _body(request)
    pools = _pools(wanted.get("pools", [])) if wanted is not None else None
    if wanted is None or pools is None:
        return _json(_BAD_POOLS, after_s)
    is_heard = "pools" in wanted or miner.firmware.takes_partial_bodies
    if is_heard and miner.firmware.ignores_writes:
        _wake_only(miner, wanted)
    elif is_heard:
        _apply(miner, wanted, pools)
    return _json(_OK, after_s)


def _wake_only(miner: Miner, wanted: Json) -> None:
    """The firmware that doesn't hear sleep and pools: one that sleeps can be woken, or it would never have hashed."""
    state = _wanted_state(miner, wanted)
    if state is not None and state != CURTAILED and miner.report().state == CURTAILED:
        miner.turn(state)


def _apply(miner: Miner, wanted: Json, pools: list[Pool]) -> None:
    """Fans and pools, then the mode. Only the places of pools that were sent are written."""
    for key in _FAN_KEYS:
        if key in wanted:
            miner.memory.settings[key] = str(wanted[key]).lower()
    if pools:
        miner.write_pools(pools + miner.pools[len(pools) :])
    state = _wanted_state(miner, wanted)
    if state is not None and state != miner.report().state:
        miner.turn(state)


def _wanted_state(miner: Miner, wanted: Json) -> int | None:
    """The state asked for, as far as this version listens; None: none, or one that is not known."""
    firmware = miner.firmware
    said = [str(wanted[key]) for key in firmware.mode_keys if key in wanted]
    if not said or (firmware.needs_every_key and len(said) < len(firmware.mode_keys)):
        return None
    return _STATES.get(said[0])


def _pools(value: object) -> list[Pool] | None:
    """Pools as they were posted; None where they are none."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return None
    texts = [[one.get(key, "") for key in ("url", "user", "pass")] for one in value]
    if not all(isinstance(text, str) for row in texts for text in row):
        return None
    return [Pool(*row) for row in texts]


def _get_blink(miner: Miner, _request: Request) -> Response:
    return _json({"blink": miner.memory.is_blinking})


def _blink(miner: Miner, request: Request) -> Response:
    wanted = (_body(request) or {}).get("blink")
    if str(wanted).lower() not in {"true", "false"}:
        return _json({"code": "B001"})
    miner.memory.is_blinking = str(wanted).lower() == "true"
    return _json({"code": "B000" if miner.memory.is_blinking else "B100"})


def _reboot(miner: Miner, _request: Request) -> Response:
    if not miner.firmware.ignores_writes:
        miner.reboot()
    return _json({"stats": "success", "code": "R000", "msg": "OK!"})


def _network(miner: Miner) -> Json:
    return {
        "nettype": "DHCP",
        "netdevice": "eth0",
        "macaddr": miner.identity.mac,
        "hostname": miner.identity.hostname,
        "ipaddress": miner.address,
        "netmask": "255.0.0.0",
    }


def _body(request: Request) -> Json | None:
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json(value: Json, after_s: float = 0.0) -> Response:
    return Response(200, json.dumps(value).encode(), "application/json", after_s=after_s)


_PAGES: Final[dict[str, Callable[[Miner, Request], Response]]] = {
    "stats": _figures,
    "summary": _figures,
    "pools": _figures,
    "warning": _figures,
    "get_system_info": _system_info,
    "get_network_info": _network_info,
    "miner_type": _miner_type,
    "get_miner_conf": _get_conf,
    "set_miner_conf": _set_conf,
    "get_blink_status": _get_blink,
    "blink": _blink,
    "reboot": _reboot,
}
_WRITES: Final = {"set_miner_conf", "blink", "reboot"}
