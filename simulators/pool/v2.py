"""One miner's conversation in Stratum V2, behind the encryption: its connection, its channels, its shares. No sockets here."""

import math
from collections.abc import Callable
from typing import Any, Final

from simulators.pool import v2_messages as m
from simulators.pool.config import HIGHEST_DIFFICULTY
from simulators.pool.jobs import Job
from simulators.pool.office import Office
from simulators.pool.shares import VERSION_MASK, Shares, Submission, Verdict
from simulators.pool.vardiff import Vardiff
from simulators.pool.work import EXTRANONCE2_BYTES, HASHES_PER_DIFFICULTY, difficulty_of_target, merkle_root, target_of

MINING: Final = 0  # the protocol that is spoken here
VERSION: Final = 2
REQUIRES_WORK_SELECTION: Final = 0b010
_KNOWN_FLAGS: Final = 0b111
MOST_CHANNELS: Final = 64


class HangUpError(Exception):
    """The connection has to end, after these messages."""

    def __init__(self, reason: str, *last: Any) -> None:
        super().__init__(reason)
        self.last = list(last)


class Channel:
    """A standard channel: one worker."""

    def __init__(self, office: Office, number: int, user: str, extranonce: bytes, vardiff: Vardiff) -> None:
        self.number = number
        self.user = user
        self.extranonce = extranonce
        self.vardiff = vardiff
        self._office = office
        self._shares = Shares(office.jobs)
        self._unsaid = 0.0  # of the credited difficulty: a sum on the wire is a whole number

    def work(self, job: Job, *, is_first: bool = False) -> list[Any]:
        """A job: for a new block where it is one, or the channel's first."""
        template = job.template
        number = self._shares.give(job, self.vardiff.difficulty, VERSION_MASK)
        root = merkle_root(template, self.extranonce)
        if not (is_first or job.is_clean):
            return [m.NewMiningJob(self.number, number, template.time_s, template.version, root)]
        return [
            m.NewMiningJob(self.number, number, None, template.version, root),
            m.SetNewPrevHash(self.number, number, template.previous_hash, template.time_s, template.bits),
        ]

    def retarget(self) -> list[Any]:
        """The target as it is now, and a job to find by it."""
        job = self._office.jobs.newest._replace(is_clean=False)
        return [m.SetTarget(self.number, target_of(self.vardiff.difficulty)), *self.work(job)]

    def submit(self, share: m.SubmitSharesStandard) -> list[Any]:
        """Judge a share."""
        ruling = self._shares.rule(Submission(share.job, self.extranonce, share.time_s, share.nonce, share.version))
        self._office.outside.book(self.user, ruling)
        if ruling.verdict is not Verdict.VALID:
            return [m.SubmitSharesError(self.number, share.sequence, ruling.verdict.value)]
        self.vardiff.count()
        self._unsaid += ruling.difficulty
        whole = int(self._unsaid)
        self._unsaid -= whole
        said: list[Any] = [m.SubmitSharesSuccess(self.number, share.sequence, 1, whole)]
        return said + (self.retarget() if self.vardiff.moved(self._office.clock.real_s()) else [])


class Session:
    """State of one connection; each answer is the messages to send."""

    def __init__(self, office: Office, extranonce1: bytes) -> None:
        self._office = office
        self._extranonce1 = extranonce1
        self._channels: dict[int, Channel] = {}
        self._is_set_up = False
        self._opened = 0
        self._handlers: dict[type[Any], Callable[[Any], list[Any]]] = {
            m.OpenStandardMiningChannel: self._open,
            m.OpenExtendedMiningChannel: lambda said: [
                m.OpenMiningChannelError(said.request, "extended-not-supported")
            ],
            m.UpdateChannel: self._update,
            m.CloseChannel: self._close,
            m.SubmitSharesStandard: self._submit,
        }

    @property
    def is_stranger(self) -> bool:
        """Whether it has not said yet what it wants."""
        return not self._is_set_up

    def answer(self, message: Any) -> list[Any]:
        """What a message is answered with; what a pool is not told is passed over.

        Raises:
            HangUpError: nothing more can come of this connection.
        """
        if not self._is_set_up:
            return self._set_up(message)
        handler = self._handlers.get(type(message))
        return handler(message) if handler else []

    def announce(self, job: Job) -> list[Any]:
        """A new job, for every channel."""
        return [said for channel in self._channels.values() for said in channel.work(job)]

    def look(self) -> list[Any]:
        """Move difficulties where that is due."""
        now_s = self._office.clock.real_s()
        return [said for one in self._channels.values() if one.vardiff.moved(now_s) for said in one.retarget()]

    def _set_up(self, message: Any) -> list[Any]:
        if not isinstance(message, m.SetupConnection):
            reason = "the first message is not SetupConnection"
            raise HangUpError(reason)
        unknown = message.flags & (REQUIRES_WORK_SELECTION | ~_KNOWN_FLAGS)
        if message.protocol != MINING:
            raise HangUpError("another protocol", m.SetupConnectionError(0, "unsupported-protocol"))
        if not message.min_version <= VERSION <= message.max_version:
            raise HangUpError("another version", m.SetupConnectionError(0, "protocol-version-mismatch"))
        if unknown:
            raise HangUpError("flags", m.SetupConnectionError(unknown, "unsupported-feature-flags"))
        self._is_set_up = True
        return [m.SetupConnectionSuccess(VERSION, 0)]

    def _open(self, asked: m.OpenStandardMiningChannel) -> list[Any]:
        if self._office.refusal(asked.user):
            return [m.OpenMiningChannelError(asked.request, "unknown-user")]
        if problem := _problem(asked.nominal_hashes_per_s, asked.max_target):
            return [m.OpenMiningChannelError(asked.request, problem)]
        if len(self._channels) >= MOST_CHANNELS:
            return [m.OpenMiningChannelError(asked.request, "too-many-channels")]
        self._opened += 1
        number = self._opened
        extranonce = self._extranonce1 + number.to_bytes(EXTRANONCE2_BYTES, "big")
        vardiff = self._office.vardiff()
        channel = self._channels[number] = Channel(self._office, number, asked.user, extranonce, vardiff)
        self._take_claim(channel, asked.nominal_hashes_per_s, asked.max_target)
        target = target_of(vardiff.difficulty)
        success = m.OpenStandardMiningChannelSuccess(asked.request, number, target, extranonce, 0)
        return [success, *channel.work(self._office.jobs.newest, is_first=True)]

    def _update(self, asked: m.UpdateChannel) -> list[Any]:
        channel = self._channels.get(asked.channel)
        if channel is None:
            return [m.UpdateChannelError(asked.channel, "invalid-channel-id")]
        if problem := _problem(asked.nominal_hashes_per_s, asked.max_target):
            return [m.UpdateChannelError(asked.channel, problem)]
        self._take_claim(channel, asked.nominal_hashes_per_s, asked.max_target)
        return channel.retarget()

    def _take_claim(self, channel: Channel, hashes_per_s: float, max_target: int) -> None:
        """A claim sets how difficult shares are. What is credited are shares alone."""
        self._office.outside.enter(channel.user).claimed_hashes_per_s = hashes_per_s
        config = self._office.config
        channel.vardiff.least = max(config.least_difficulty, difficulty_of_target(max_target))
        wanted = hashes_per_s * config.share_every_s / HASHES_PER_DIFFICULTY
        channel.vardiff.suggest(min(wanted, HIGHEST_DIFFICULTY), self._office.clock.real_s())

    def _close(self, asked: m.CloseChannel) -> list[Any]:
        self._channels.pop(asked.channel, None)
        return []

    def _submit(self, share: m.SubmitSharesStandard) -> list[Any]:
        channel = self._channels.get(share.channel)
        if channel is None:
            return [m.SubmitSharesError(share.channel, share.sequence, "invalid-channel-id")]
        return channel.submit(share)


def _problem(hashes_per_s: float, max_target: int) -> str:
    if not math.isfinite(hashes_per_s) or hashes_per_s < 0:
        return "invalid-nominal-hash-rate"
    return "max-target-out-of-range" if difficulty_of_target(max_target) > HIGHEST_DIFFICULTY else ""
