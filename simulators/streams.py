"""Random streams: one per entity and block, derived from (seed, entity, block) alone.

So any block of any series can be made at any time, in any order, and is the same bytes. No shared generator exists.
"""

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DAY_S = 86_400


def stream(seed: int, *entity: str | int) -> np.random.Generator:
    """The random stream of one entity (and block) under a seed."""
    name = "/".join(str(part) for part in (seed, *entity))
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def uniforms(seed: int, members: IntArray, *entity: str | int) -> FloatArray:
    """One number in [0, 1) for each member of a large family, each from a stream of its own; `members` are numbers below 2^32.

    Counter-based (SplitMix64: Steele, Lea and Flood, OOPSLA 2014), since 300,000 generators would take seconds to make.
    """
    name = "/".join(str(part) for part in (seed, *entity))
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    state = (members.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=4096)
def _white(seed: int, entity: str, day: int, steps: int) -> FloatArray:
    values = stream(seed, entity, day).standard_normal(steps)
    values.setflags(write=False)
    return values


def smooth_noise(seed: int, entity: str, day: int, steps: int, tau_steps: float) -> FloatArray:
    """One UTC day of a stationary, autocorrelated series: mean 0, variance 1, correlation e^(-lag/tau).

    A finite filter over this day's and the preceding days' white noise, so that days join without a seam
    although each can be made alone.
    """
    taps = np.exp(-np.arange(int(6 * tau_steps) + 1) / tau_steps)
    taps /= np.sqrt(np.square(taps).sum())
    lead = len(taps) - 1
    days_before = -(-lead // steps)
    parts = [_white(seed, entity, day - back, steps) for back in range(days_before, -1, -1)]
    noise = np.concatenate(parts)[-(steps + lead) :]
    return np.convolve(noise, taps, mode="valid")
