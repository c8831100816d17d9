"""One miner's conversation in Stratum V1: what it has asked for, which jobs it has, what it hears. No sockets here."""

import math
import re
from collections.abc import Callable
from typing import Any, Final

from simulators.pool.config import HIGHEST_DIFFICULTY
from simulators.pool.jobs import Job
from simulators.pool.office import Office
from simulators.pool.shares import VERSION_MASK, Shares, Submission, Verdict
from simulators.pool.v1_messages import (
    Code,
    RefusedError,
    Request,
    hex_bytes,
    notify,
    refusal,
    reply,
    set_difficulty,
)
from simulators.pool.work import EXTRANONCE_BYTES, difficulty_of_target

EXTRANONCE2_BYTES: Final = 8  # the miner's
MOST_WORKERS: Final = 64  # of one connection, a proxy's say
_REFUSALS: Final = {
    Verdict.STALE: (Code.JOB_NOT_FOUND, "Job not found: stale"),
    Verdict.UNKNOWN_JOB: (Code.JOB_NOT_FOUND, "Job not found"),
    Verdict.DUPLICATE: (Code.DUPLICATE, "Duplicate share"),
    Verdict.LOW: (Code.LOW_DIFFICULTY, "Low difficulty share"),
    Verdict.TIME: (Code.OTHER, "ntime out of range"),
    Verdict.VERSION: (Code.OTHER, "Version bits outside of the mask"),
    Verdict.TOO_MANY: (Code.OTHER, "Too many shares of one job"),
}
_PASSWORD_DIFFICULTY: Final = re.compile(r"(?:^|[,;])d=([0-9.eE+-]{1,24})")


class Session:
    """State of one connection; each answer is the lines to send."""

    def __init__(self, office: Office, own: bytes) -> None:
        """`own`: how this connection's extranonces begin."""
        self._office = office
        self._extranonce1 = own.ljust(EXTRANONCE_BYTES - EXTRANONCE2_BYTES, b"\0")
        self._shares = Shares(office.jobs)
        self._vardiff = office.vardiff()
        self._told_difficulty = 0.0
        self._version_mask = 0
        self._is_subscribed = False
        self._workers: set[str] = set()
        self._methods: dict[str, Callable[[list[Any]], Any]] = {
            "mining.configure": self._configure,
            "mining.subscribe": self._subscribe,
            "mining.authorize": self._authorize,
            "mining.submit": self._submit,
            "mining.extranonce.subscribe": lambda _params: True,
            "mining.suggest_difficulty": self._suggest_difficulty,
            "mining.suggest_target": self._suggest_target,
            "mining.ping": lambda _params: "pong",
        }

    @property
    def is_stranger(self) -> bool:
        """Whether nobody has logged on yet."""
        return not self._workers

    @property
    def is_working(self) -> bool:
        """Whether jobs go to it."""
        return self._is_subscribed and bool(self._workers)

    def answer(self, request: Request) -> list[bytes]:
        """What a request is answered with, and what follows from it."""
        was_working, before = self.is_working, (self._vardiff.difficulty, self._version_mask)
        method = self._methods.get(request.method)
        try:
            if method is None:
                raise RefusedError(Code.OTHER, f"Unknown method {request.method[:40]!r}")
            said = [reply(request.id, method(request.params))]
        except RefusedError as refused:
            said = [refusal(request.id, refused.code, str(refused))]
        if self.is_working and not was_working:
            said += self.work(self._office.jobs.newest, is_clean=True)
        elif self.is_working and (self._vardiff.difficulty, self._version_mask) != before:
            said += self.work(self._office.jobs.newest, is_clean=False)
        return said

    def work(self, job: Job, *, is_clean: bool | None = None) -> list[bytes]:
        """A job, after the difficulty where that is another one."""
        said = []
        if self._vardiff.difficulty != self._told_difficulty:
            self._told_difficulty = self._vardiff.difficulty
            said.append(set_difficulty(self._told_difficulty))
        number = self._shares.give(job, self._told_difficulty, self._version_mask)
        return [*said, notify(f"{number:x}", job, is_clean=job.is_clean if is_clean is None else is_clean)]

    def look(self) -> list[bytes]:
        """Move the difficulty where shares come too often or too seldom."""
        moves = self.is_working and self._vardiff.moved(self._office.clock.real_s())
        return self.work(self._office.jobs.newest, is_clean=False) if moves else []

    def _configure(self, params: list[Any]) -> dict[str, Any]:
        extensions = params[0] if params and isinstance(params[0], list) else []
        options = params[1] if len(params) > 1 and isinstance(params[1], dict) else {}
        granted: dict[str, Any] = {}
        least = 0.0
        for name in extensions[:16]:
            if name == "version-rolling":
                granted |= self._roll_versions(options)
            elif name == "minimum-difficulty":
                asked = options.get("minimum-difficulty.value", 0.0)
                granted[name] = _is_difficulty(asked)
                least = float(asked) if granted[name] else 0.0
            elif isinstance(name, str):
                granted[name] = name in ("subscribe-extranonce", "info")
        self._vardiff.raise_least(least)
        return granted

    def _roll_versions(self, options: dict[str, Any]) -> dict[str, Any]:
        asked = options.get("version-rolling.mask", "ffffffff")
        fewest = options.get("version-rolling.min-bit-count", 0)
        mask = int.from_bytes(hex_bytes("version-rolling.mask", asked, 4), "big") & VERSION_MASK
        if not isinstance(fewest, int) or mask.bit_count() < fewest:
            return {"version-rolling": False}
        self._version_mask = mask
        return {"version-rolling": True, "version-rolling.mask": f"{mask:08x}"}

    def _subscribe(self, _params: list[Any]) -> list[Any]:
        self._is_subscribed = True
        name = self._extranonce1.hex()
        return [[["mining.set_difficulty", name], ["mining.notify", name]], name, EXTRANONCE2_BYTES]

    def _authorize(self, params: list[Any]) -> bool:
        name = params[0] if params and isinstance(params[0], str) else ""
        if problem := self._office.refusal(name):
            raise RefusedError(Code.UNAUTHORIZED, f"Unauthorized worker: {problem}")
        if name not in self._workers and len(self._workers) >= MOST_WORKERS:
            raise RefusedError(Code.UNAUTHORIZED, f"{MOST_WORKERS} workers a connection are the most")
        self._workers.add(name)
        self._office.outside.enter(name)
        password = params[1] if len(params) > 1 and isinstance(params[1], str) else ""
        wanted = _PASSWORD_DIFFICULTY.search(password)
        if wanted and _is_difficulty(number := _number(wanted[1])):  # what is none is a password like any other
            self._suggest(number)
        return True

    def _submit(self, params: list[Any]) -> bool:
        if not self._is_subscribed:
            raise RefusedError(Code.NOT_SUBSCRIBED, "Not subscribed")
        if len(params) < 5 or not isinstance(params[0], str) or params[0] not in self._workers:
            raise RefusedError(Code.UNAUTHORIZED, "Unauthorized worker")
        ruling = self._shares.rule(self._submission(params))
        self._office.outside.book(params[0], ruling)
        if ruling.verdict is not Verdict.VALID:
            raise RefusedError(*_REFUSALS[ruling.verdict])
        self._vardiff.count()
        return True

    def _submission(self, params: list[Any]) -> Submission:
        try:
            number = int(_digits(params[1]), 16)
        except ValueError:
            number = 0
        extranonce2 = hex_bytes("extranonce2", params[2], EXTRANONCE2_BYTES)
        time_s, nonce = (
            int.from_bytes(hex_bytes(*each, 4), "big") for each in (("ntime", params[3]), ("nonce", params[4]))
        )
        version, mask = self._shares.version_of(number)
        if len(params) > 5 and params[5] is not None:
            bits = int.from_bytes(hex_bytes("version bits", params[5], 4), "big")
            if bits & ~mask:
                raise RefusedError(*_REFUSALS[Verdict.VERSION])
            version = (version & ~mask) | bits
        return Submission(number, self._extranonce1 + extranonce2, time_s, nonce, version)

    def _suggest_difficulty(self, params: list[Any]) -> bool:
        self._suggest(params[0] if params else None)
        return True

    def _suggest_target(self, params: list[Any]) -> bool:
        target = hex_bytes("target", params[0] if params else None, 32)
        self._suggest(difficulty_of_target(int.from_bytes(target, "big")))
        return True

    def _suggest(self, difficulty: Any) -> None:
        if not _is_difficulty(difficulty):
            raise RefusedError(Code.OTHER, f"a difficulty is a number above 0 and at most {HIGHEST_DIFFICULTY:g}")
        self._vardiff.suggest(float(difficulty), self._office.clock.real_s())


def _digits(job_id: Any) -> str:
    """A job's id as a text of at most eight digits, else none."""
    return job_id if isinstance(job_id, str) and 0 < len(job_id) <= 8 and job_id.isalnum() else "0"


def _is_difficulty(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 < value <= HIGHEST_DIFFICULTY


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
