"""Generated bitcoin: the price (geometric Brownian motion) and the network (blocks, difficulty, fees).

Anchored at the real figures of 2025-01-01 and walked both ways, block by block, so that any past or later range can be
made at any time. Recorded candles and network days are in `replay`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulators.streams import FloatArray, stream

HOUR_S = 3600
SATOSHI = 100_000_000
FINE_STEP_S = 5
BASE_S = 1_735_689_600
_BASE_PRICE_USD = 93_500.0
_HOURLY_VOL = 0.0055
_YEAR_H = 8760
# The difficulty epoch that began at 2024-12-29T19:00Z (height 876,960 = 435 · 2016).
_BASE_EPOCH = 435
_BASE_EPOCH_S = 1_735_498_800.0
_BASE_DIFFICULTY = 109.78e12
EPOCH_BLOCKS = 2016


Blocks = Callable[[float, int], "list[Block]"]  # so many, the newest first, that were mined by an instant


class Candle(NamedTuple):
    """One hour of trading, USD; `volume` in BTC."""

    start_s: int
    low: float
    high: float
    open: float
    close: float
    volume: float


class Block(NamedTuple):
    """A mined block; money in satoshi."""

    height: int
    timestamp_s: float
    difficulty: float
    fees_sat: int

    @property
    def subsidy_sat(self) -> int:
        """The block subsidy, a function of height alone."""
        return subsidy_sat(self.height)


def subsidy_sat(height: int) -> int:
    """The block subsidy at a height, satoshi.

    >>> subsidy_sat(840_000)
    312500000
    """
    return (50 * SATOSHI) >> (height // 210_000)


class BitcoinPrice:
    """The price at any instant: hourly steps, bridged every 5 seconds."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._year = lru_cache(maxsize=64)(self._log_year)
        self._start = lru_cache(maxsize=64)(self._year_start)
        self.bridge = lru_cache(maxsize=4096)(self._bridge)

    def at_hour(self, hour: int) -> float:
        """The price at the start of a UTC hour (Unix seconds // 3600), USD."""
        block, offset = divmod(hour - BASE_S // HOUR_S, _YEAR_H)
        walked = float(self._year(block)[offset - 1]) if offset else 0.0
        return _BASE_PRICE_USD * float(np.exp(self._start(block) + walked))

    def path(self, hour: int) -> FloatArray:
        """Prices through a UTC hour, one per 5 s, both ends included, USD."""
        first, last = self.at_hour(hour), self.at_hour(hour + 1)
        line = np.linspace(np.log(first), np.log(last), HOUR_S // FINE_STEP_S + 1)
        return np.asarray(np.exp(line + _HOURLY_VOL * self.bridge(hour)))

    def volume(self, hour: int) -> float:
        """Traded volume of an hour, BTC."""
        return float(stream(self._seed, "btc.volume", hour).lognormal(6.2, 0.6))

    def _log_year(self, block: int) -> FloatArray:
        return np.cumsum(stream(self._seed, "btc.price", block).normal(0.0, _HOURLY_VOL, _YEAR_H))

    def _year_start(self, block: int) -> float:
        if block == 0:
            return 0.0
        if block > 0:
            return self._start(block - 1) + float(self._year(block - 1)[-1])
        return self._start(block + 1) - float(self._year(block)[-1])

    def _bridge(self, hour: int) -> FloatArray:
        """A standard Brownian bridge over one hour: 0 at both ends."""
        steps = HOUR_S // FINE_STEP_S
        walk = np.cumsum(stream(self._seed, "btc.bridge", hour).normal(0.0, steps**-0.5, steps))
        return np.concatenate([[0.0], walk - walk[-1] * np.arange(1, steps + 1) / steps])


class _Epoch(NamedTuple):
    """2016 blocks between two retargets: offsets from its start, fees, and the ratio to the next difficulty."""

    offsets_s: FloatArray
    fees_sat: FloatArray
    next_ratio: float


class BitcoinNetwork:
    """Blocks, difficulty and fees at any instant."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._epoch = lru_cache(maxsize=512)(self._make_epoch)
        self._origin = lru_cache(maxsize=2048)(self._epoch_origin)

    def blocks_before(self, at_s: float, count: int) -> list[Block]:
        """The last `count` blocks mined by an instant, oldest first."""
        found: list[Block] = []
        epoch = self._epoch_at(at_s)
        while len(found) < count and epoch > 0:
            start_s, difficulty = self._origin(epoch)
            made = self._epoch(epoch)
            known = int(np.searchsorted(made.offsets_s, at_s - start_s, side="right"))
            first = max(0, known - (count - len(found)))
            found = [
                Block(
                    epoch * EPOCH_BLOCKS + index,
                    float(np.floor(start_s + made.offsets_s[index])),
                    difficulty,
                    int(made.fees_sat[index]),
                )
                for index in range(first, known)
            ] + found
            epoch -= 1
        return found

    def _epoch_at(self, at_s: float) -> int:
        epoch = _BASE_EPOCH + int((at_s - _BASE_EPOCH_S) // (14 * 86_400))
        while self._origin(epoch)[0] > at_s:
            epoch -= 1
        while self._origin(epoch + 1)[0] <= at_s:
            epoch += 1
        return epoch

    def _epoch_origin(self, epoch: int) -> tuple[float, float]:
        """Start (Unix seconds) and difficulty of an epoch, by walking from the base; ratios don't depend on level."""
        start_s, difficulty = _BASE_EPOCH_S, _BASE_DIFFICULTY
        for step in range(_BASE_EPOCH, epoch):
            made = self._epoch(step)
            start_s, difficulty = start_s + float(made.offsets_s[-1]), difficulty * made.next_ratio
        for step in range(_BASE_EPOCH - 1, epoch - 1, -1):
            made = self._epoch(step)
            start_s, difficulty = start_s - float(made.offsets_s[-1]), difficulty / made.next_ratio
        return start_s, difficulty

    def _make_epoch(self, epoch: int) -> _Epoch:
        draw = stream(self._seed, "btc.network", epoch)
        growth = draw.normal(0.012, 0.022)
        gaps = draw.exponential(600.0 / (1.0 + growth), EPOCH_BLOCKS)
        level_sat = 0.075 * SATOSHI * draw.lognormal(0.0, 0.35)
        fees = np.floor(level_sat * draw.lognormal(-0.18, 0.6, EPOCH_BLOCKS))
        offsets = np.cumsum(gaps)
        ratio = float(np.clip(EPOCH_BLOCKS * 600.0 / offsets[-1], 0.25, 4.0))
        return _Epoch(offsets, fees, ratio)
