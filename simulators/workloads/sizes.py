"""How big requests are: tokens, true seconds, GPUs (of mining: miners), their memory, hashrate; a column each, NaN for none."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.streams import FloatArray, IntArray
from simulators.workloads.assumed import MINING, Assumed, Lognormal
from simulators.workloads.customers import Customers
from simulators.workloads.fitted import FittedNumbers, Quantity

TOKENS: Final[tuple[Quantity, ...]] = ("input_tokens", "output_tokens")
FILLED: Final = 0.9  # of a GPU's memory that a model may take
MOST_GPUS: Final = 8.0  # of a model that serves: one node
PARAMETERS_8B: Final = 8.0
LEAST_S: Final = 0.001
LONGEST_S: Final = 30 * 86_400.0


@dataclass(frozen=True)
class Sizes:
    """Of requests in a row. `model` is a place in the family's list, `gpu` in the list of types: where it would run best."""

    model: IntArray
    gpu: IntArray
    parameters_billion: FloatArray
    batch: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    duration_s: FloatArray
    gpu_count: FloatArray
    memory_gb: FloatArray
    hashrate_th_per_s: FloatArray


class Sizing:
    """Draws sizes of one family."""

    def __init__(self, name: str, assumed: Assumed, fitted: FittedNumbers, customers: Customers) -> None:
        self._name, self._assumed, self._fitted, self._customers = name, assumed, fitted, customers
        self._kind = assumed.families[name]
        self._parameters = np.array(list(self._kind.models.values()) or [np.nan])
        self._memory = np.array([gpu.memory_gb for gpu in assumed.gpus.values()])

    def draw(self, random: np.random.Generator, who: IntArray) -> Sizes:
        """The sizes of what these customers ask for."""
        n, none = len(who), np.full(len(who), np.nan)
        model = self._models(random, who)
        gpu = self._customers.gpu[who]
        if self._name == MINING:
            mining = self._assumed.mining
            seconds = np.minimum(3600.0 * lognormal(random, mining.duration_h, n), LONGEST_S)
            miners = np.clip(np.ceil(lognormal(random, mining.miners, n)), 1, mining.most_miners)
            batch, hashes = np.ones(n, dtype=np.int64), miners * mining.th_per_s_of_a_miner
            return Sizes(model, gpu, none, batch, none, none, seconds, miners, none, hashes)
        parameters = self._parameters[model]
        sizes = self._fitted.families[self._name].sizes
        spoken = self._fitted.families[self._kind.tokens_of or self._name].sizes
        tokens = [spoken[each].draw(random.random(n)) if each in spoken else none for each in TOKENS]
        read, written = (np.maximum(np.round(each), 1.0) for each in tokens)
        batch = _chosen(random, self._kind.batch, n)
        drawn = (
            sizes["duration_s"].draw(random.random(n))
            if "duration_s" in sizes
            else self._spoken_s(read, written, parameters)
        )
        count, memory_gb = self._gpus(random, parameters, self._memory[gpu])
        return Sizes(model, gpu, parameters, batch, read, written, np.maximum(drawn, LEAST_S), count, memory_gb, none)

    def _models(self, random: np.random.Generator, who: IntArray) -> IntArray:
        usual = self._customers.favourite[self._name][who]
        other = random.integers(0, max(len(self._kind.models), 1), len(who))
        return np.where(random.random(len(who)) < self._assumed.habits.favourite_model, usual, other)

    def _spoken_s(self, read: FloatArray, written: FloatArray, parameters: FloatArray) -> FloatArray:
        slower = np.sqrt(parameters / PARAMETERS_8B)
        assumed = self._assumed
        return np.asarray((read / assumed.prefill_tokens_per_s + written / assumed.decode_tokens_per_s) * slower)

    def _gpus(
        self, random: np.random.Generator, parameters: FloatArray, memory_gb: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """(GPUs, GB of each)."""
        room = FILLED * memory_gb
        if self._kind.workload_type != "model_training":
            needed = self._assumed.inference_gb_per_billion * parameters
            count = np.minimum(2.0 ** np.ceil(np.log2(np.maximum(needed / room, 1.0))), MOST_GPUS)
        else:
            needed = self._assumed.training_gb_per_billion * parameters
            gangs, n = self._assumed.gangs, len(parameters)
            single = _chosen(random, self._fitted.gpus_per_training, n)
            count = np.where(random.random(n) < gangs.chance, _chosen(random, gangs.gpus, n), single).astype(float)
        return count, np.ceil(np.minimum(needed / count, room))


def lognormal(random: np.random.Generator, of: Lognormal, count: int) -> FloatArray:
    """So many draws."""
    return np.asarray(of.median * np.exp(of.sigma * random.standard_normal(count)))


def _chosen(random: np.random.Generator, shares: dict[int, float], count: int) -> IntArray:
    weights = np.cumsum(list(shares.values()))
    place = np.searchsorted(weights / weights[-1], random.random(count), side="right")
    return np.array(list(shares))[place]
