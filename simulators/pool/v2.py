"""One miner's conversation in Stratum V2, behind the encryption: its connection, its channels, its shares. No sockets here."""

import math
from collections.abc import Callable
from typing import Any, Final

from simulators.pool import v2_messages as m
from simulators.pool.config import HIGHEST_DIFFICULTY
from simulators.pool.jobs import Job
from simulators.pool.office import Office
from simulators.pool.shares import VERSION_MASK, Shares, Submission, Verdict
from simulators.pool.work import (
    EXTRANONCE_BYTES,
    HASHES_PER_DIFFICULTY,
    Template,
    difficulty_of_target,
    merkle_root,
    target_of,
)

MINING: Final = 0  # the protocol that is spoken here
VERSION: Final = 2
REQUIRES_WORK_SELECTION: Final = 0b010
_KNOWN_FLAGS: Final = 0b111
MOST_CHANNELS: Final = 64
MOST_OPENED: Final = 0xFFFF  # channels of one connection, one after the other
FREE_BYTES: Final = 10  # of the extranonce, that a proxy chooses
GROUP: Final = 0  # no channel has this number


class HangUpError(Exception):
    """The connection has to end, after these messages."""

    def __init__(self, reason: str, *last: Any) -> None:
        super().__init__(reason)
        self.last = list(last)


class WholeSum:
    """Credited difficulty as it goes over the wire, in whole numbers: what is left over is told with the next share."""

    def __init__(self) -> None:
        self._left = 0.0

    def add(self, difficulty: float) -> int:
        """What to tell of now.

        >>> told = WholeSum()
        >>> [told.add(0.375) for _ in range(8)], told.add(1e6)
        ([0, 0, 1, 0, 0, 1, 0, 1], 1000000)
        """
        self._left += difficulty
        whole = int(self._left)
        self._left -= whole
        return whole


class Channel:
    """A standard channel: one worker, whose extranonce the pool has chosen whole."""

    def __init__(self, office: Office, number: int, user: str, extranonce: bytes) -> None:
        self.number = number
        self.user = user
        self.extranonce = extranonce
        self.vardiff = office.vardiff()
        self._office = office
        self._shares = Shares(office.jobs)
        self._credited = WholeSum()

    def opened(self, request: int) -> Any:
        """What is said of it when it is opened."""
        target = target_of(self.vardiff.difficulty)
        return m.OpenStandardMiningChannelSuccess(request, self.number, target, self.extranonce, GROUP)

    def work(self, job: Job, *, is_first: bool = False) -> list[Any]:
        """A job: for a new block where it is one, or the channel's first."""
        template = job.template
        number = self._shares.give(job, self.vardiff.difficulty, VERSION_MASK)
        if not (is_first or job.is_clean):
            return [self._job(number, template, template.time_s)]
        return [
            self._job(number, template, None),
            m.SetNewPrevHash(self.number, number, template.previous_hash, template.time_s, template.bits),
        ]

    def retarget(self) -> list[Any]:
        """The target as it is now, and a job to find by it."""
        job = self._office.jobs.newest._replace(is_clean=False)
        return [m.SetTarget(self.number, target_of(self.vardiff.difficulty)), *self.work(job)]

    def submit(self, share: m.SubmitSharesStandard | m.SubmitSharesExtended) -> list[Any]:
        """Judge a share."""
        extranonce = self._extranonce_of(share)
        if extranonce is None:
            return [m.SubmitSharesError(self.number, share.sequence, "invalid-share-type")]
        ruling = self._shares.rule(Submission(share.job, extranonce, share.time_s, share.nonce, share.version))
        self._office.outside.book(self.user, ruling)
        if ruling.verdict is not Verdict.VALID:
            return [m.SubmitSharesError(self.number, share.sequence, ruling.verdict.value)]
        self.vardiff.count()
        whole = self._credited.add(ruling.difficulty)
        said: list[Any] = [m.SubmitSharesSuccess(self.number, share.sequence, 1, whole)]
        return said + (self.retarget() if self.vardiff.moved(self._office.clock.real_s()) else [])

    def _job(self, number: int, template: Template, time_s: int | None) -> Any:
        return m.NewMiningJob(self.number, number, time_s, template.version, merkle_root(template, self.extranonce))

    def _extranonce_of(self, share: m.SubmitSharesStandard | m.SubmitSharesExtended) -> bytes | None:
        """The extranonce that a share was found with; None where a share of this kind has no business here."""
        return self.extranonce if isinstance(share, m.SubmitSharesStandard) else None


class ExtendedChannel(Channel):
    """A proxy's: the rest of the extranonce, behind the channel's own, is the proxy's to choose."""

    def opened(self, request: int) -> Any:
        """What is said of it when it is opened."""
        target = target_of(self.vardiff.difficulty)
        return m.OpenExtendedMiningChannelSuccess(request, self.number, target, FREE_BYTES, self.extranonce, GROUP)

    def _job(self, number: int, template: Template, time_s: int | None) -> Any:
        coinbase = template.coinbase_head, template.coinbase_tail
        return m.NewExtendedMiningJob(self.number, number, time_s, template.version, True, template.branches, *coinbase)

    def _extranonce_of(self, share: m.SubmitSharesStandard | m.SubmitSharesExtended) -> bytes | None:
        if isinstance(share, m.SubmitSharesStandard) or len(share.extranonce) != FREE_BYTES:
            return None
        return self.extranonce + share.extranonce


class Session:
    """State of one connection; each answer is the messages to send."""

    def __init__(self, office: Office, own: bytes) -> None:
        """`own`: how this connection's extranonces begin."""
        self._office = office
        self._own = own
        self._channels: dict[int, Channel] = {}
        self._is_set_up = False
        self._opened = 0
        self._handlers: dict[type[Any], Callable[[Any], list[Any]]] = {
            m.OpenStandardMiningChannel: self._open,
            m.OpenExtendedMiningChannel: self._open,
            m.UpdateChannel: self._update,
            m.CloseChannel: self._close,
            m.SubmitSharesStandard: self._submit,
            m.SubmitSharesExtended: self._submit,
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

    def _open(self, asked: m.OpenStandardMiningChannel | m.OpenExtendedMiningChannel) -> list[Any]:
        if self._office.refusal(asked.user):
            return [m.OpenMiningChannelError(asked.request, "unknown-user")]
        if problem := _problem(asked.nominal_hashes_per_s, asked.max_target):
            return [m.OpenMiningChannelError(asked.request, problem)]
        if len(self._channels) >= MOST_CHANNELS or self._opened >= MOST_OPENED:
            return [m.OpenMiningChannelError(asked.request, "too-many-channels")]
        if isinstance(asked, m.OpenExtendedMiningChannel) and asked.min_extranonce_bytes > FREE_BYTES:
            return [m.OpenMiningChannelError(asked.request, "min-extranonce-size-too-large")]
        channel = self._made(asked)
        self._channels[channel.number] = channel
        self._take_claim(channel, asked.nominal_hashes_per_s, asked.max_target)
        return [channel.opened(asked.request), *channel.work(self._office.jobs.newest, is_first=True)]

    def _made(self, asked: m.OpenStandardMiningChannel | m.OpenExtendedMiningChannel) -> Channel:
        """A channel with an extranonce of its own: a proxy's begins with its number, a miner's ends with it; they never meet."""
        self._opened += 1
        if isinstance(asked, m.OpenExtendedMiningChannel):
            number = self._opened.to_bytes(EXTRANONCE_BYTES - FREE_BYTES - len(self._own), "big")
            return ExtendedChannel(self._office, self._opened, asked.user, self._own + number)
        number = self._opened.to_bytes(EXTRANONCE_BYTES - len(self._own), "big")
        return Channel(self._office, self._opened, asked.user, self._own + number)

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

    def _submit(self, share: m.SubmitSharesStandard | m.SubmitSharesExtended) -> list[Any]:
        channel = self._channels.get(share.channel)
        if channel is None:
            return [m.SubmitSharesError(share.channel, share.sequence, "invalid-channel-id")]
        return channel.submit(share)


def _problem(hashes_per_s: float, max_target: int) -> str:
    if not math.isfinite(hashes_per_s) or hashes_per_s < 0:
        return "invalid-nominal-hash-rate"
    return "max-target-out-of-range" if difficulty_of_target(max_target) > HIGHEST_DIFFICULTY else ""
