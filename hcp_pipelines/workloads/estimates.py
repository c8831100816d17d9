"""What a piece of work is charged when it is claimed: what it was said to take, corrected by what its customer's word was worth.

Who has not run enough yet to be known is charged at least what such work usually takes; who has run longer than it said is
charged at that ratio. Both are given back when the work ends sooner, so that an honest estimate costs nothing. The ratio is that
of the GPU-seconds that ran to those of them that had been said: only real use redeems it. It fades as other debts do.
"""

from dataclasses import dataclass
from datetime import datetime

from hcp_pipelines.workloads.fair import LEAST_CHARGE_GPU_S


@dataclass(frozen=True, slots=True)
class Word:
    """What has ended of a customer's work: GPU-seconds that ran, and those of them that had been said; as of `judged_at`."""

    said_gpu_s: float = 0.0
    ran_gpu_s: float = 0.0
    judged_at: datetime | None = None

    def faded(self, now: datetime, half_life_s: float) -> "Word":
        """As it counts by now."""
        if self.judged_at is None:
            return self
        kept = 0.5 ** (max((now - self.judged_at).total_seconds(), 0.0) / half_life_s)
        return Word(self.said_gpu_s * kept, self.ran_gpu_s * kept, now)

    def ratio(self, proof_gpu_s: float) -> float:
        """How many times as long as said, 1 or more; half of what it says while `proof_gpu_s` have run, less before.

        >>> Word(said_gpu_s=2, ran_gpu_s=3600).ratio(proof_gpu_s=3600)
        900.5
        """
        if self.ran_gpu_s <= self.said_gpu_s or not self.said_gpu_s:
            return 1.0
        return 1.0 + (self.ran_gpu_s / self.said_gpu_s - 1.0) * self.ran_gpu_s / (self.ran_gpu_s + proof_gpu_s)


def charge_of(
    said_s: float, gpu_count: int, used_gpu_s: float, typical_s: float, word: Word, proof_gpu_s: float
) -> float:
    """GPU-seconds to charge for work that was said to take `said_s`, of which `used_gpu_s` have run already.

    `typical_s` is what such work takes, 0 where that isn't known. What has run beyond all expectation is charged as anew.
    """
    expected_s = said_s * word.ratio(proof_gpu_s)
    if word.ran_gpu_s < proof_gpu_s:
        expected_s = max(expected_s, typical_s)
    expected_gpu_s = expected_s * gpu_count
    left_gpu_s = expected_gpu_s - used_gpu_s
    return max(left_gpu_s if left_gpu_s > 0 else expected_gpu_s, LEAST_CHARGE_GPU_S)
