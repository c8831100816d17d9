"""WhatsMiner API 3, the commands that change something: the token made of the device's salt, and what they do.

Token and encrypted parameter as in MicroBT's API 3 documentation. The password is the factory's. Any time stamp is taken: the
clients' clock is not the simulated one.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from simulators.miners.framed import FAIL, NO_PERMISSION, v3_reply
from simulators.miners.memory import Pool
from simulators.miners.miner import Miner
from simulators.miners.report import ECO, FULL
from simulators.miners.whatsminer_write import limit_percent, limit_power

Json = dict[str, Any]
_ACCOUNT = _PASSWORD = "super"  # noqa: S105  # the factory's
_TOKEN_LENGTH: Final = 8
_MODES: Final = {"low": ECO, "normal": FULL}


def write(miner: Miner, command: str, request: Json) -> Json:
    """Check the token, do it, and answer."""
    miner.keep()
    secret = _secret(miner, command, request)
    if secret is None:
        return v3_reply(miner, command, "no permission", NO_PERMISSION)
    is_done = WRITES[command](miner, _opened(command, request.get("param"), secret))
    return v3_reply(miner, command, "ok") if is_done else v3_reply(miner, command, "fail", FAIL)


def _service(miner: Miner, wanted: object) -> bool:
    if wanted == "restart":
        miner.restart()
        return True
    if isinstance(wanted, str) and wanted in {"enable", "disable"}:
        miner.memory.settings["autostart"] = wanted
        return True
    return {"stop": miner.sleep, "start": miner.wake}.get(str(wanted), lambda: False)()


def _mode(miner: Miner, wanted: object) -> bool:
    return isinstance(wanted, str) and wanted in _MODES and miner.choose(_MODES[wanted])


def _limit(miner: Miner, wanted: object) -> bool:
    return isinstance(wanted, int) and 0 <= wanted <= 99_999 and limit_power(miner, wanted)


def _percent(miner: Miner, wanted: object) -> bool:
    percent = wanted.get("percent") if isinstance(wanted, dict) else None
    return isinstance(percent, int) and limit_percent(miner, percent)


def _write_pools(miner: Miner, wanted: object) -> bool:
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        return False
    texts = [[one.get(key, "") for key in ("pool", "worker", "passwd")] for one in wanted]
    if not all(isinstance(text, str) for row in texts for text in row):
        return False
    miner.write_pools([Pool(*row) for row in texts])
    return True


def _led(miner: Miner, wanted: object) -> bool:
    """Auto, or patterns; nothing at all, which one client sends, is auto too."""
    miner.memory.is_blinking = isinstance(wanted, list)
    return True


def _reboot(miner: Miner, _wanted: object) -> bool:
    miner.reboot()
    return True


def _remember(name: str) -> Callable[[Miner, object], bool]:
    def act(miner: Miner, wanted: object) -> bool:
        if isinstance(wanted, str):
            miner.memory.settings[name] = wanted
        return isinstance(wanted, str)

    return act


def _secret(miner: Miner, command: str, request: Json) -> bytes | None:
    """The hash that a right token is the beginning of; None where the token is wrong."""
    stamp, token = request.get("ts"), request.get("token")
    if not isinstance(stamp, int) or request.get("account") != _ACCOUNT:
        return None
    secret = hashlib.sha256(f"{command}{_PASSWORD}{miner.identity.salt}{stamp}".encode()).digest()
    return secret if token == base64.b64encode(secret).decode()[:_TOKEN_LENGTH] else None


def _opened(command: str, wanted: object, secret: bytes) -> object:
    """The parameter; that of `set.miner.pools` comes encrypted under the whole hash."""
    if command != "set.miner.pools" or not isinstance(wanted, str):
        return wanted
    try:
        sealed = base64.b64decode(wanted)
        opener = Cipher(algorithms.AES(secret), modes.ECB()).decryptor()  # noqa: S305  # the protocol's
        return json.loads((opener.update(sealed) + opener.finalize()).rstrip(b"\0"))
    except (ValueError, RecursionError):
        return None


WRITES: Final[dict[str, Callable[[Miner, object], bool]]] = {
    "set.miner.service": _service,
    "set.miner.power_mode": _mode,
    "set.miner.power_limit": _limit,
    "set.miner.power": _limit,
    "set.miner.power_percent": _percent,
    "set.miner.pools": _write_pools,
    "set.miner.fastboot": _remember("fast_boot"),
    "set.system.led": _led,
    "set.system.reboot": _reboot,
}
