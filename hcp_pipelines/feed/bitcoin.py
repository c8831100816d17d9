"""Bitcoin as the feed publishes it: all exchanges asked at once, and one series of their consensus, which is what is acted on.

The exchanges' own prices are recorded about once a minute, for people and for the lake. Who is right is in `markets.consensus`.
A leap that a fresh exchange does not join is held back for two polls more, twenty seconds: two exchanges that are wrong together
for a moment move nothing, and a crash that all see is acted on at once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import BITCOIN, Quality, Stream, Tick
from hcp_pipelines.markets.consensus import MAX_AGE_S, Consensus, NoConsensusError, Quote, bitcoin_consensus, quoted

SOURCE = "aggregate"
ANSWER_WITHIN_S = 2.0  # real: a venue that is slower is silent, and holds the others up no longer
RECORDED_EVERY = timedelta(seconds=60)
CLOCKS_APART = timedelta(seconds=2)  # setting: a trade may be stamped so far ahead of our clock, and is from now
LEAP_POLLS = 3  # with newer trades each: so often a leap must be seen before it is published


class Venue(Protocol):
    """An exchange's client."""

    async def ticker(self) -> Tick:
        """Its last trade."""
        ...


@dataclass
class Bitcoin:
    """The exchanges, what each last said, and the consensus so far. `poll_s`: simulated seconds from one poll to the next.

    `evidence`: the last consensus that was not itself chosen by one before, nor held back.
    """

    venues: Mapping[str, Venue]
    clock: Clock
    poll_s: float
    quotes: dict[str, Quote] = field(default_factory=dict)
    last: Consensus | None = None
    evidence: Consensus | None = None
    _leaps: list[Consensus] = field(default_factory=list)
    _recorded_at: dict[str, datetime] = field(default_factory=dict)
    _log: structlog.stdlib.BoundLogger = field(default_factory=lambda: structlog.get_logger("feed.bitcoin"))

    async def ticks(self) -> Sequence[Tick]:
        """The consensus, and what is due to be recorded of the exchanges.

        Raises:
            MarketError: no exchange answered, or they stand for no price together.
        """
        answers = await asyncio.gather(*(self._ask(name) for name in self.venues))
        heard = [answer for answer in answers if isinstance(answer, Tick)]
        if not heard:
            raise MarketError("; ".join(str(answer) for answer in answers))
        now = self.clock.now()
        for tick in heard:
            at = now if now < tick.source_at <= now + CLOCKS_APART else tick.source_at
            self.quotes[tick.series] = quoted(tick.series, at, tick.value, self.quotes.get(tick.series))
        due = [tick for tick in heard if self._is_due(tick)]
        try:
            return [*due, self._agreed(heard)]
        except NoConsensusError as error:
            if not due:
                raise
            self._log.warning("no_consensus", error=str(error))  # what they said is recorded all the same
            return due

    async def _ask(self, name: str) -> Tick | MarketError:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self.venues[name].ticker()
        except TimeoutError:
            return MarketError(f"{name}: no answer within {ANSWER_WITHIN_S:g} s")
        except MarketError as error:
            return MarketError(f"{name}: {error}")

    def _agreed(self, heard: Sequence[Tick]) -> Tick:
        """The consensus as a tick, never older than the one before: a venue that is left out takes no time back."""
        before, now = self.last, self.clock.now()
        max_age_s = max(MAX_AGE_S, 3 * self.poll_s)
        found = bitcoin_consensus(self.quotes.values(), now, last=self.evidence, max_age_s=max_age_s)
        self._hold_back(found)
        if set(found.rejected) != set(before.rejected if before else ()):
            self._log.info("exchanges_left_out", rejected=found.rejected, used=found.venues)
        self.last = replace(found, at=max(found.at, before.at) if before else found.at)
        self.evidence = self.evidence if found.by_last else found
        world = {"world": source} if (source := heard[0].metadata.get("world")) else {}
        about = {"venues": list(found.venues), "rejected": found.rejected, **world}
        quality = Quality.GOOD
        if found.leap:
            quality, about["quality_reason"] = Quality.UNUSUAL, f"{found.leap}, seen {LEAP_POLLS} times"
        return Tick(Stream.BTC_USD, BITCOIN, self.last.at, found.usd, "USD", SOURCE, quality, metadata=about)

    def _hold_back(self, found: Consensus) -> None:
        """Raise NoConsensusError for a leap that has not been seen often enough, each time by newer trades."""
        if not found.leap:
            self._leaps = []
            return
        if self._leaps and self._leaps[-1].leap[0] != found.leap[0]:  # up, and now down
            self._leaps = []
        if not self._leaps or found.at > self._leaps[-1].at:
            self._leaps.append(found)
        if len(self._leaps) < LEAP_POLLS:
            raise NoConsensusError(
                f"{' and '.join(found.venues)} say {found.usd:,.2f} USD, {found.leap}, seen {len(self._leaps)} of "
                f"{LEAP_POLLS} times; not joined by {found.rejected or 'anyone'}. Held back until then."
            )

    def _is_due(self, tick: Tick) -> bool:
        at = self._recorded_at.get(tick.series)
        if at is not None and tick.source_at < at + RECORDED_EVERY:
            return False
        self._recorded_at[tick.series] = tick.source_at
        return True
