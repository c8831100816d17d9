"""WhatsMiner API 2, the commands that change something: token, AES envelope, and what they do.

Key, sign and envelope as in MicroBT's API 2 document, which owners' software follows. The password is the factory's. Token lives
are real seconds, since clients keep them by their own clock.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from simulators.miners.cgminer import DENIED, INVALID_COMMAND, INVALID_JSON, Json, Reply
from simulators.miners.firmware import Dialect
from simulators.miners.md5crypt import md5crypt
from simulators.miners.memory import Pool
from simulators.miners.miner import Miner
from simulators.miners.report import ECO, FULL

DONE, FAILED, TOKEN, BAD_TOKEN, WORN_TOKEN = 131, 132, 134, 135, 136
TOKEN_LIFE_S: Final = 1800.0
TOKEN_USES: Final = 32
_MAX_TOKENS: Final = 16
_NO_LIMIT_W: Final = 99_999
_PASSWORD: Final = "admin"  # noqa: S105  # the factory's
_BLOCK: Final = 16
_DONE_TEXT, _FAILED_TEXT = "API command OK", "API command ERROR"


def get_token(miner: Miner) -> Json:
    """Hand out what a client makes its sign of."""
    memory = miner.keep()
    memory.counter += 1
    now_s = miner.hall.clock.real_s()
    stamp = f"{int(now_s) % 10_000:04d}"
    salt = hashlib.blake2b(f"{miner.address}/{memory.counter}".encode(), digest_size=4).hexdigest()
    memory.tokens = {sign: kept for sign, kept in memory.tokens.items() if kept[0] > now_s}
    while len(memory.tokens) >= _MAX_TOKENS:
        memory.tokens.pop(next(iter(memory.tokens)))
    memory.tokens[md5crypt(_key_text(miner) + stamp, salt)] = (now_s + TOKEN_LIFE_S, TOKEN_USES)
    return message(miner, TOKEN, {"time": stamp, "salt": miner.identity.salt, "newsalt": salt})


def write(miner: Miner, request: Json) -> Reply:
    """Open the envelope, check the token, do it, and answer in the same envelope; no bytes: the connection just ends."""
    if miner.firmware.dialect is Dialect.WHATSMINER_V3:
        return _plain(miner, DENIED, "no permission")
    wanted = _open(miner, request.get("data"))
    if wanted is None:
        return _plain(miner, INVALID_JSON, "json cmd err")
    problem = _token_problem(miner, wanted.get("token"))
    if problem:
        return _plain(miner, problem, "check token err" if problem == BAD_TOKEN else "token over max times")
    miner.keep()
    command = wanted.get("cmd", wanted.get("command"))
    act = _COMMANDS.get(command) if isinstance(command, str) else None
    if act is None:
        return _plain(miner, INVALID_COMMAND, "invalid cmd")
    if command == "reboot" and not miner.firmware.replies_before_reboot:
        miner.reboot()
        return Reply(b"")
    is_done = act(miner, wanted)
    return Reply(_seal(miner, message(miner, DONE if is_done else FAILED, _DONE_TEXT if is_done else _FAILED_TEXT)))


def message(miner: Miner, code: int, text: object, kind: str = "S") -> Json:
    """A reply of the newer kind, whose `Msg` is a text or an object."""
    kind = "E" if code == FAILED else kind
    return {"STATUS": kind, "When": int(miner.now_s), "Code": code, "Msg": text, "Description": ""}


def _token_problem(miner: Miner, sign: object) -> int:
    """0, or the code of what is wrong with a token; uses it once."""
    kept = miner.memory.tokens.get(sign) if isinstance(sign, str) else None
    if not isinstance(sign, str) or kept is None or miner.hall.clock.real_s() >= kept[0]:
        return BAD_TOKEN
    if kept[1] <= 0:
        return WORN_TOKEN
    miner.memory.tokens[sign] = (kept[0], kept[1] - 1)
    return 0


def _limit(miner: Miner, wanted: Json) -> bool:
    text = str(wanted.get("power_limit", ""))
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        return False
    return limit_power(miner, int(text))


def limit_power(miner: Miner, watts: int) -> bool:
    """Hold power under a number of watts, or no longer; False where it can't run on so little."""
    if watts >= _NO_LIMIT_W:
        miner.unlimit()
        miner.memory.power_limit_w = None
        return True
    is_done = miner.limit(watts)
    if is_done:
        miner.memory.power_limit_w = watts
    return is_done


def _percent(miner: Miner, wanted: Json) -> bool:
    text = str(wanted.get("percent", ""))
    if not (text.isascii() and text.isdigit()):
        return False
    return limit_percent(miner, int(text))


def limit_percent(miner: Miner, percent: int) -> bool:
    """Hold power under a share of the machine's own; False where it can't run on so little."""
    own_w = max((one.power_w for one in miner.group.states), default=0.0)
    if not 0 <= percent <= 100 or not miner.limit(own_w * percent / 100.0):
        return False
    miner.memory.settings["power_pct"] = str(percent)
    return True


def _led(miner: Miner, wanted: Json) -> bool:
    miner.memory.is_blinking = wanted.get("param") != "auto"
    return True


def _write_pools(miner: Miner, wanted: Json) -> bool:
    texts = [[wanted.get(f"{name}{number}") or "" for name in ("pool", "worker", "passwd")] for number in (1, 2, 3)]
    if not all(isinstance(text, str) for row in texts for text in row):
        return False
    miner.write_pools([Pool(*row) for row in texts])
    return True


def _reboot(miner: Miner, _wanted: Json) -> bool:
    miner.reboot()
    return True


def _restart(miner: Miner, _wanted: Json) -> bool:
    miner.restart()
    return True


def _remember(name: str, value: str) -> Callable[[Miner, Json], bool]:
    def act(miner: Miner, _wanted: Json) -> bool:
        miner.memory.settings[name] = value
        return True

    return act


_COMMANDS: Final[dict[str, Callable[[Miner, Json], bool]]] = {
    "power_off": lambda miner, _: miner.sleep(),
    "power_on": lambda miner, _: miner.wake(),
    "set_low_power": lambda miner, _: miner.choose(ECO),
    "set_normal_power": lambda miner, _: miner.choose(FULL),
    "set_high_power": lambda _miner, _: False,  # no profile above Normal in this world
    "adjust_power_limit": _limit,
    "set_power_pct": _percent,
    "set_power_pct_v2": _percent,
    "update_pools": _write_pools,
    "set_led": _led,
    "reboot": _reboot,
    "restart_btminer": _restart,
    "enable_btminer_fast_boot": _remember("fast_boot", "enable"),
    "disable_btminer_fast_boot": _remember("fast_boot", "disable"),
    "enable_web_pools": _remember("web_pools", "enable"),
    "disable_web_pools": _remember("web_pools", "disable"),
}


def _key_text(miner: Miner) -> str:
    return _cached_key_text(miner.identity.salt)


@lru_cache(maxsize=4096)
def _cached_key_text(salt: str) -> str:
    return md5crypt(_PASSWORD, salt)


def _cipher(miner: Miner) -> Cipher[modes.ECB]:
    key = hashlib.sha256(_key_text(miner).encode()).digest()
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # the protocol's


def _open(miner: Miner, data: object) -> Json | None:
    """The command in an envelope; None where it can't be read."""
    try:
        sealed = base64.b64decode(str(data), validate=False)
        opener = _cipher(miner).decryptor()
        value = json.loads((opener.update(sealed) + opener.finalize()).rstrip(b"\0"))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _seal(miner: Miner, reply: Json) -> bytes:
    text = json.dumps(reply).encode()
    text += b"\0" * (-len(text) % _BLOCK)
    sealer = _cipher(miner).encryptor()
    sealed = base64.b64encode(sealer.update(text) + sealer.finalize())
    return json.dumps({"enc": sealed.decode()}).encode()


def _plain(miner: Miner, code: int, text: str) -> Reply:
    return Reply(json.dumps(message(miner, code, text, "E")).encode())
