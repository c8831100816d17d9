"""LuxOS, what changes something: the one session, curtail, profiles, pools, light, reboot.

A session is no protection but a courtesy between controllers: one at a time, ended a minute after its last use (real seconds,
since clients keep it by their own clock). Source: docs.luxor.tech/firmware/api/sessions, …/luxminer/curtail, …/profileset.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final

from simulators.miners.cgminer import Json, status
from simulators.miners.luxos_profiles import Profile, profiles
from simulators.miners.memory import Pool
from simulators.miners.miner import Miner

SESSION_S: Final = 60.0
_MISSING, _WRONG, _BAD_SESSION, _BUSY = 400, 401, 402, 403


def about(miner: Miner) -> str:
    """The `Description` of every reply."""
    return f"LUXminer {miner.firmware.version}"


def failure(miner: Miner, code: int, text: str) -> Json:
    """An error reply."""
    return {"STATUS": [status(code, text, about(miner), int(miner.now_s), "E")], "id": 1}


def act(miner: Miner, command: str, parameter: str) -> Json:
    """Carry out a command; those that need the session have its id as first item of the parameter."""
    miner.keep()
    needs_session, run = SESSION_COMMANDS[command]
    items = parameter.split(",") if parameter else []
    if needs_session:
        if not items or not _is_valid(miner, items[0]):
            return failure(miner, _BAD_SESSION, "Invalid session ID")
        miner.memory.session_until_s = miner.hall.clock.real_s() + SESSION_S
        items = items[1:]
    return run(miner, items)


def _done(miner: Miner, code: int, text: str, **rows: Any) -> Json:
    return {"STATUS": [status(code, text, about(miner), int(miner.now_s))], **rows, "id": 1}


def _present(miner: Miner) -> str:
    """The id of the session that holds; empty: none."""
    return miner.memory.session if miner.hall.clock.real_s() < miner.memory.session_until_s else ""


def _is_valid(miner: Miner, session: str) -> bool:
    return bool(session) and session == _present(miner)


def _session(miner: Miner, _items: list[str]) -> Json:
    return _done(miner, 319, "Session information", SESSION=[{"SessionID": _present(miner)}])


def _logon(miner: Miner, _items: list[str]) -> Json:
    if _present(miner):
        return failure(miner, _BUSY, "Another session is active")
    memory = miner.memory
    memory.counter += 1
    memory.session = hashlib.blake2b(f"{miner.address}/{memory.counter}".encode(), digest_size=4).hexdigest()
    memory.session_until_s = miner.hall.clock.real_s() + SESSION_S
    return _done(miner, 316, "Session created", SESSION=[{"SessionID": memory.session}])


def _logoff(miner: Miner, _items: list[str]) -> Json:
    miner.memory.session_until_s = 0.0
    return _done(miner, 317, "Session terminated")


def _kill(miner: Miner, _items: list[str]) -> Json:
    miner.memory.session_until_s = 0.0
    return _done(miner, 318, "Session killed")


def _curtail(miner: Miner, items: list[str]) -> Json:
    action = items[0] if items else ""
    runs: dict[str, tuple[str, Callable[[], bool]]] = {
        "sleep": ("sleep mode", miner.sleep),
        "wakeup": ("wake up", miner.wake),
    }
    if action not in runs:
        return failure(miner, _WRONG if action else _MISSING, "Invalid curtailment action")
    text, run = runs[action]
    run()
    return _done(miner, 335, "Curtailment command sent", CURTAIL=[{"Action": text}])


def _profileset(miner: Miner, items: list[str]) -> Json:
    """By name; a board's number before it is taken and means nothing, as it long has."""
    if len(items) > 1 and items[0] in {"0", "1", "2", "3"}:
        items = items[1:]
    if not items:
        return failure(miner, _MISSING, "Missing profile name")
    profile = next((one for one in profiles(miner) if one.name == items[0]), None)
    if profile is None or not _take(miner, profile):
        return failure(miner, _WRONG, "Profile not found")
    row = {"Board": 0, "FrequencyStep": 5, "Profile": profile.name, "VoltageStep": 0.05}
    return _done(miner, 321, "Profile Set", PROFILE=[row])


def _take(miner: Miner, profile: Profile) -> bool:
    miner.memory.settings["profile"] = profile.name
    if profile.limit_w is not None:
        return miner.limit(profile.limit_w)
    miner.unlimit()
    return miner.choose(profile.state)


def _atmset(miner: Miner, items: list[str]) -> Json:
    values = dict(item.partition("=")[::2] for item in items)
    if "enabled" in values:
        miner.memory.settings["atm"] = values["enabled"]
    return _done(miner, 340, "ATM set", ATM=[{"Enabled": miner.memory.settings.get("atm", "false") == "true"}])


def _ledset(miner: Miner, items: list[str]) -> Json:
    if len(items) != 2 or items[0] not in {"red", "green"} or items[1] not in {"on", "off", "blink", "auto"}:
        return failure(miner, _WRONG, "Invalid LED or state")
    miner.memory.settings[f"{items[0]}_led"] = items[1]
    return _done(miner, 326, "LED set", LEDS=[{"Led": items[0], "Status": items[1]}])


def _rebootdevice(miner: Miner, _items: list[str]) -> Json:
    miner.reboot()
    return _done(miner, 315, "Device reboot scheduled", REBOOTDEVICE=[{"Scheduled": True}])


def _resetminer(miner: Miner, _items: list[str]) -> Json:
    miner.restart()
    return _done(miner, 306, "Miner reset", RESETMINER=[{"Reset": True}])


def _addpool(miner: Miner, items: list[str]) -> Json:
    pools = [pool for pool in miner.pools if pool.url]
    if len(items) < 2 or not items[0] or len(pools) == len(miner.pools):
        return failure(miner, _MISSING, "Invalid add pool details")
    miner.write_pools([*pools, Pool(items[0], items[1], items[2] if len(items) > 2 else "")])
    return _done(miner, 55, f"Added pool {len(pools)}: '{items[0]}'")


def _removepool(miner: Miner, items: list[str]) -> Json:
    pools = [pool for pool in miner.pools if pool.url]
    number = int(items[0]) if items and items[0].isascii() and items[0].isdigit() else -1
    if not 0 <= number < len(pools):
        return failure(miner, 26, "Invalid pool id")
    url = pools.pop(number).url
    miner.write_pools(pools)
    return _done(miner, 68, f"Removed pool {number}:'{url}'")


SESSION_COMMANDS: Final[dict[str, tuple[bool, Callable[[Miner, list[str]], Json]]]] = {
    "session": (False, _session),
    "logon": (False, _logon),
    "kill": (False, _kill),
    "addpool": (False, _addpool),
    "removepool": (False, _removepool),
    "logoff": (True, _logoff),
    "curtail": (True, _curtail),
    "profileset": (True, _profileset),
    "atmset": (True, _atmset),
    "ledset": (True, _ledset),
    "rebootdevice": (True, _rebootdevice),
    "resetminer": (True, _resetminer),
}
