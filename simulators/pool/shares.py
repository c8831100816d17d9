"""One connection's shares: which count, at what difficulty, why the others don't. The hashing is checked, nothing is believed."""

from enum import Enum
from typing import Final, NamedTuple

from simulators.pool.jobs import Job, JobBook
from simulators.pool.work import Header, meets, merkle_root, target_of

TIME_AHEAD_S: Final = 7200  # that a header may be ahead of its job's time
MOST_SHARES_PER_JOB: Final = 4096
MOST_GIVEN: Final = 32  # jobs of one connection that count at a time
_ALL_BITS: Final = 0xFFFF_FFFF
VERSION_MASK: Final = 0x1FFF_E000  # BIP 320: the bits that are free for hashing


class Verdict(Enum):
    """What became of a share."""

    VALID = "valid"
    STALE = "stale-share"
    UNKNOWN_JOB = "invalid-job-id"
    DUPLICATE = "duplicate-share"
    LOW = "difficulty-too-low"
    TIME = "time-out-of-range"
    VERSION = "invalid-version-bits"
    TOO_MANY = "too-many-shares"


class Submission(NamedTuple):
    """A share as a miner hands it in; `version` is the whole version that it hashed with."""

    job: int
    extranonce: bytes
    time_s: int
    nonce: int
    version: int


class Ruling(NamedTuple):
    """What became of a share, and the difficulty that it counts for if it is valid."""

    verdict: Verdict
    difficulty: float = 0.0


class _Given(NamedTuple):
    job: Job
    difficulty: float
    version_mask: int
    seen: set[bytes]  # the hashes of this template's shares, whatever number it went out under


class Shares:
    """The jobs given to one connection, under numbers of its own, and the shares that came of them."""

    def __init__(self, jobs: JobBook) -> None:
        self._jobs = jobs
        self._given: dict[int, _Given] = {}
        self._number = 0

    def give(self, job: Job, difficulty: float, version_mask: int) -> int:
        """A job goes out at a difficulty, which its shares count for whatever the next one has; the number it has here."""
        alive = {number: one for number, one in self._given.items() if self._jobs.find(one.job.number)}
        seen = next((one.seen for one in alive.values() if one.job.number == job.number), set())
        self._number += 1
        self._given = dict(list(alive.items())[1 - MOST_GIVEN :])
        self._given[self._number] = _Given(job, difficulty, version_mask, seen)
        return self._number

    def version_of(self, number: int) -> tuple[int, int]:
        """The version that a job went out with, and the mask of what may be rolled of it; of an unknown one anything."""
        given = self._given.get(number)
        return (given.job.template.version, given.version_mask) if given else (0, _ALL_BITS)

    def rule(self, share: Submission) -> Ruling:
        """Judge a share; a valid one is remembered, so that it counts once."""
        given = self._given.get(share.job)
        if given is None or self._jobs.find(given.job.number) is None:
            return Ruling(Verdict.STALE if 0 < share.job <= self._number else Verdict.UNKNOWN_JOB)
        if problem := _out_of_bounds(given, share):
            return Ruling(problem)
        template = given.job.template
        root = merkle_root(template, share.extranonce)
        header = Header(share.version, template.previous_hash, root, share.time_s, template.bits, share.nonce)
        found = header.hash()
        if not meets(found, target_of(given.difficulty)):
            return Ruling(Verdict.LOW)
        if found in given.seen:
            return Ruling(Verdict.DUPLICATE)
        given.seen.add(found)
        return Ruling(Verdict.VALID, given.difficulty)


def _out_of_bounds(given: _Given, share: Submission) -> Verdict | None:
    """What is wrong with a share before anything is hashed."""
    template = given.job.template
    if not template.time_s <= share.time_s <= template.time_s + TIME_AHEAD_S:
        return Verdict.TIME
    if (share.version ^ template.version) & ~given.version_mask:
        return Verdict.VERSION
    return Verdict.TOO_MANY if len(given.seen) >= MOST_SHARES_PER_JOB else None
