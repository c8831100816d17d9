"""One bitcoin price from several exchanges: the median of those that are fresh and agree; who is left out, and why. Pure.

A venue is left out when its last trade is too old, when its price stands still for as long while two others move, or when it lies
further from the median than five robust standard deviations, at least 0.5 % (recorded spot and perpetual differ by 0.045 %). The
median itself bears a minority that is wrong. The consensus before is evidence for ten minutes: it tells two that contradict each
other apart, and makes a leap doubtful that a fresh venue does not join. Whether such a leap is waited for: `feed.bitcoin`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from hcp_pipelines.domain.errors import MarketError

MAX_AGE_S = 120.0  # setting: a venue that trades bitcoin trades within two minutes
DEVIATIONS = 5.0
SIGMA_OF_MAD = 1.4826  # of a normal distribution: standard deviation over median absolute deviation
LEAST_SHARE = 0.005
LEAST_MOVING = 2  # venues: of one alone nobody knows whether it is the one that is wrong
LAST_FOR_S = 600.0  # in ten minutes prices move by 0.3 %: after that the nearer of two may well be the wrong one
LEAP = 0.02  # from the last consensus; in ten seconds a few times a year, and then all venues leap


class NoConsensusError(MarketError):
    """No price that the venues stand for together: all are stale, or two contradict each other."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The last price of a venue, USD per bitcoin, when it was traded at, and since when it is this one, if that is known."""

    venue: str
    at: datetime
    usd: float
    moved_at: datetime | None = None


def quoted(venue: str, at: datetime, usd: float, before: Quote | None) -> Quote:
    """A venue's quote, with the instant since which it has this price, as the quotes before tell."""
    same = before is not None and before.usd == usd
    return Quote(venue, at, usd, before.moved_at if before is not None and same else at)


@dataclass(frozen=True, slots=True)
class Consensus:
    """The price, the newest instant that is in it, the venues in it, and those that are not with the reason.

    `by_last`: of two that contradict each other it is the one nearer the consensus before, so it is no evidence itself.
    `leap`: how far it lies from the consensus before, in words, where a fresh venue does not join it; else empty.
    """

    usd: float
    at: datetime
    venues: tuple[str, ...]
    rejected: dict[str, str]
    by_last: bool = False
    leap: str = ""


def bitcoin_consensus(
    quotes: Iterable[Quote], now: datetime, *, last: Consensus | None = None, max_age_s: float = MAX_AGE_S
) -> Consensus:
    """The price that the venues stand for at an instant.

    Args:
        quotes: any number, one a venue.
        now: the instant; quotes from after it are not looked at.
        last: the consensus before that was not itself chosen by one before; not looked at once it is older than
            ten minutes and than a quote may be.
        max_age_s: of a quote.

    Raises:
        NoConsensusError: no venue is fresh, or two are and contradict each other with nothing to tell who is right.
    """
    every = [quote for quote in quotes if quote.at <= now]
    rejected = {quote.venue: why for quote in every if (why := _unusable(quote, now, max_age_s))}
    fresh = [quote for quote in every if quote.venue not in rejected]
    if not fresh:
        raise NoConsensusError(_none_fresh(rejected, max_age_s))
    rejected |= _stuck(fresh, now, max_age_s)
    fresh = [quote for quote in fresh if quote.venue not in rejected]
    last_usd = last.usd if last and (now - last.at).total_seconds() <= max(LAST_FOR_S, max_age_s) else None
    centre = _centre(fresh, last_usd)
    limit = _limit_usd(fresh, centre)
    rejected |= {
        quote.venue: f"{quote.usd:,.2f} USD is {quote.usd / centre - 1:+.1%} off the median of {centre:,.2f}"
        for quote in fresh
        if abs(quote.usd - centre) > limit
    }
    used = [quote for quote in fresh if quote.venue not in rejected]
    names, usd = tuple(sorted(quote.venue for quote in used)), median(quote.usd for quote in used)
    leap = _leap(usd, last_usd, len(fresh) - len(used), len(used))
    return Consensus(usd, max(quote.at for quote in used), names, rejected, _contradict(fresh), leap)


def _unusable(quote: Quote, now: datetime, max_age_s: float) -> str:
    if not (math.isfinite(quote.usd) and quote.usd > 0):
        return f"{quote.usd} is no price"
    age_s = (now - quote.at).total_seconds()
    return f"last trade {age_s:.0f} s ago" if age_s > max_age_s else ""


def _stuck(fresh: list[Quote], now: datetime, max_age_s: float) -> dict[str, str]:
    """Those that repeat one price although at least two others have moved since; where nobody moves, nobody is stuck."""
    still_s = {quote.venue: (now - quote.moved_at).total_seconds() for quote in fresh if quote.moved_at is not None}
    moving = sum(each <= max_age_s for each in still_s.values())
    if moving < LEAST_MOVING:
        return {}
    return {venue: f"the same price for {each:.0f} s" for venue, each in still_s.items() if each > max_age_s}


def _contradict(fresh: list[Quote]) -> bool:
    """Whether they are two, and apart."""
    prices = [quote.usd for quote in fresh]
    return len(prices) == 2 and max(prices) - min(prices) > LEAST_SHARE * min(prices)


def _centre(fresh: list[Quote], last_usd: float | None) -> float:
    """The median; of two that contradict each other, the one that is nearer the last consensus."""
    prices = [quote.usd for quote in fresh]
    if not _contradict(fresh):
        return median(prices)
    if last_usd is None:
        told = " and ".join(f"{quote.venue} {quote.usd:,.2f}" for quote in fresh)
        raise NoConsensusError(
            f"two exchanges contradict each other: {told} USD, more than {LEAST_SHARE:.1%} apart, and no third one or "
            "recent price of several says who is right. Add an exchange, or mend the wrong one."
        )
    return min(prices, key=lambda usd: abs(usd - last_usd))


def _leap(usd: float, last_usd: float | None, against: int, agreeing: int) -> str:
    """A distance from the consensus before that all venues do not stand for; two that agree with nobody against are believed."""
    if last_usd is None or abs(usd / last_usd - 1) <= LEAP or (agreeing > 1 and not against):
        return ""
    return f"{usd / last_usd - 1:+.1%} from the last {last_usd:,.2f} USD"


def _limit_usd(fresh: list[Quote], centre: float) -> float:
    spread = median(abs(quote.usd - centre) for quote in fresh)
    robust = DEVIATIONS * SIGMA_OF_MAD * spread if len(fresh) > 2 else 0.0
    return max(robust, LEAST_SHARE * centre)


def _none_fresh(rejected: dict[str, str], max_age_s: float) -> str:
    told = "; ".join(f"{venue}: {why}" for venue, why in sorted(rejected.items())) or "no exchange has quoted yet"
    return (
        f"no bitcoin price: no exchange traded within {max_age_s:.0f} s ({told}). Is the feed running, and are they up?"
    )
