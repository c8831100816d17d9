"""What the pool pays, and how lucky it is. Nothing of one miner here.

It pays per share, whatever it finds: full pay per share (FPPS), the mean block's subsidy and fees over the network's difficulty,
less the pool's fee. So luck is the pool's, not the miner's; it is told all the same, as pools do.
"""

from typing import Final, NamedTuple

import numpy as np

from simulators.bitcoin import SATOSHI, Block, Blocks
from simulators.pool.config import PoolConfig
from simulators.pool.ledger import DIFFICULTY, HOUR_S, VALID, SiteLedger
from simulators.pool.work import HASHES_PER_DIFFICULTY
from simulators.streams import BoolArray, uniforms

FEE_BLOCKS: Final = 144  # whose mean reward is paid
_LOOK_BACK_BLOCKS: Final = 12_000


class Found(NamedTuple):
    """Blocks that the pool has found."""

    blocks: tuple[Block, ...]  # the newest of them, newest first
    luck: dict[int, float]  # by number of blocks: expected over needed work, above 1 is lucky


class Payouts:
    """Rewards and luck."""

    def __init__(self, config: PoolConfig, seed: int, blocks: Blocks) -> None:
        self._config = config
        self._seed = seed
        self._blocks = blocks
        self._kept: dict[int, float] = {}  # by hour: satoshi for a share of difficulty 1, before the fee

    def satoshi_per_difficulty(self, at_s: float) -> float:
        """What a share of difficulty 1 is worth in the hour of an instant, before the pool's fee."""
        hour = int(at_s // HOUR_S)
        if hour not in self._kept:
            blocks = self._blocks(hour * HOUR_S, FEE_BLOCKS)
            mean_sat = sum(block.subsidy_sat + block.fees_sat for block in blocks) / len(blocks)
            self._kept[hour] = mean_sat / blocks[0].difficulty
        return self._kept[hour]

    def earned_btc(self, ledgers: list[SiteLedger], day: int) -> float:
        """What the account is paid for a UTC day, counted from 1970, as far as it is counted."""
        satoshi = 0.0
        for hour in range(day * 24, day * 24 + 24):
            shares = sum(int(ledger.hour(hour)[VALID].sum(dtype=np.int64)) for ledger in ledgers)
            satoshi += shares * DIFFICULTY * self.satoshi_per_difficulty(hour * HOUR_S) if shares else 0.0
        return satoshi * (1.0 - self._config.fee_fraction) / SATOSHI

    def all_time_btc(self, ledgers: list[SiteLedger]) -> float:
        """What the account has ever been paid for."""
        return sum(ledger.earned_sat for ledger in ledgers) * (1.0 - self._config.fee_fraction) / SATOSHI

    def estimated_btc(self, hashes_per_s: float, at_s: float, span_s: float) -> float:
        """What a hashrate is paid for a span from an instant on."""
        difficulty = hashes_per_s * span_s / HASHES_PER_DIFFICULTY
        return difficulty * self.satoshi_per_difficulty(at_s) * (1.0 - self._config.fee_fraction) / SATOSHI

    def found(self, at_s: float, most: int) -> Found:
        """The pool's own blocks until an instant, and its luck with them."""
        tip = self._blocks(at_s, 1)[0].height
        heights = np.arange(tip, tip - _LOOK_BACK_BLOCKS, -1)
        ours = heights[self._is_ours(heights)]
        luck = {
            number: number / ((tip + 1 - int(ours[number - 1])) * self._config.network_share)
            for number in (10, 50, 250)
            if number <= len(ours)
        }
        newest = ours[:most].tolist()
        known = self._blocks(at_s, tip - newest[-1] + 1) if newest else []
        by_height = {block.height: block for block in known}
        return Found(tuple(by_height[height] for height in newest if height in by_height), luck)

    def _is_ours(self, heights: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> BoolArray:
        """Which blocks the pool has found: each with the probability of its share of the network."""
        return uniforms(self._seed, heights, "pool.blocks") < self._config.network_share
