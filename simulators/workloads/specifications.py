"""What customers write into a specification, column by column: None where a request has no such member.

Members are those of the platform's specification (docs/workloads.md); what it has no member for stands in `sla_parameters`, where
it binds, and as text in `labels`, where it only describes.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np

from simulators.streams import FloatArray, IntArray
from simulators.workloads.assumed import MINING, Assumed, Sometimes
from simulators.workloads.customers import Customers
from simulators.workloads.sizes import LONGEST_S, Sizes, lognormal

Column = list[Any]
COARSE_S: Final = 60.0  # people state durations above it in whole minutes
LATEST_S: Final = 365 * 86_400.0  # of deadlines, from the sending
_LEAST_USD: Final = 1e-6


class Columns(NamedTuple):
    """Of a specification, of its `sla_parameters` and of its `labels`."""

    spec: dict[str, Column]
    sla_parameters: dict[str, Column]
    labels: dict[str, Column]


class Cap(NamedTuple):
    """What a share of customers will not go beyond, over what it is worth to them."""

    chance: float
    median: float
    sigma: float


BUDGET: Final = Cap(0.5, 1.3, 0.3)
MOST_PRICE: Final = Cap(0.4, 1.2, 0.2)


class Specifications:
    """Writes those of one family."""

    def __init__(self, name: str, assumed: Assumed, customers: Customers) -> None:
        self._name, self._assumed, self._customers = name, assumed, customers
        self._kind = assumed.families[name]
        self._gpus, self._models, self._regions = list(assumed.gpus), list(self._kind.models), list(assumed.regions)

    def columns(
        self,
        random: np.random.Generator,
        times: FloatArray,
        who: IntArray,
        sizes: Sizes,
        price: FloatArray,
        worth: FloatArray,
    ) -> Columns:
        """Of requests in a row, sent at these times by these customers."""
        expected = self._expected(random, who, sizes)
        most_price = _capped(random, price, MOST_PRICE, 4)
        sla = {"budget_usd": _capped(random, worth, BUDGET, 6)}
        if self._name == MINING:
            spec, labels = (
                {"gpu_count": _whole(sizes.gpu_count)},
                {"hashrate_th_per_s": _words(sizes.hashrate_th_per_s)},
            )
            sla["max_usd_per_ph_day"] = most_price
        else:
            spec, labels = self._hardware(who, sizes), self._described(random, sizes)
            spec["max_usd_per_gpu_hour"] = most_price
        spec |= self._service(random, times, expected)
        return Columns(spec, sla | self._data(random, who), labels)

    def _hardware(self, who: IntArray, sizes: Sizes) -> dict[str, Column]:
        is_open = self._customers.leaves_gpu_open[who].tolist()
        columns: dict[str, Column] = {
            "model_name": [self._models[each] for each in sizes.model.tolist()],
            "gpu_type": [
                None if skip else self._gpus[each] for each, skip in zip(sizes.gpu.tolist(), is_open, strict=True)
            ],
            "gpu_count": _whole(sizes.gpu_count),
            "memory_gb": sizes.memory_gb.tolist(),
            "batch_size": sizes.batch.tolist(),
        }
        if self._kind.workload_type == "model_training":
            columns["is_training"] = [True] * len(who)
        return columns

    def _described(self, random: np.random.Generator, sizes: Sizes) -> dict[str, Column]:
        is_told = (random.random(len(sizes.model)) < self._assumed.habits.states_tokens).tolist()
        tokens = {"input_tokens": sizes.input_tokens, "output_tokens": sizes.output_tokens}
        return {"model_parameters_billion": _words(sizes.parameters_billion)} | {
            name: [word if yes else None for word, yes in zip(_words(values), is_told, strict=True)]
            for name, values in tokens.items()
        }

    def _service(self, random: np.random.Generator, times: FloatArray, expected: FloatArray) -> dict[str, Column]:
        """How soon, how long, and whether it may be stopped."""
        kind, n = self._kind, len(times)
        columns: dict[str, Column] = {
            "estimated_duration_s": expected.tolist(),
            "interruptible": (random.random(n) < kind.interruptible).tolist(),
        }
        if kind.latency_ms is not None:
            latency = np.clip(lognormal(random, kind.latency_ms, n), kind.latency_ms.least, kind.latency_ms.most - 1.0)
            columns["max_latency_ms"] = _some(random, np.round(latency), kind.latency_ms.chance)
        if kind.deadline is not None:
            columns["deadline_at"] = self._deadlines(random, times, expected, kind.deadline)
        if kind.checkpoint_s is not None:
            every_s = np.ceil(lognormal(random, kind.checkpoint_s, n))
            columns["checkpoint_interval_s"] = _some(random, every_s, kind.checkpoint_s.chance)
        return columns

    def _data(self, random: np.random.Generator, who: IntArray) -> dict[str, Column]:
        """How much data, and where: in the customer's own region."""
        data = self._kind.data
        if data is None:
            return {}
        gb = np.round(data.median_gb * np.exp(data.sigma * random.standard_normal(len(who))), 1)
        sizes, home = _some(random, gb, data.chance), self._customers.region[who].tolist()
        regions = [None if size is None else self._regions[each] for size, each in zip(sizes, home, strict=True)]
        return {"data_gb": sizes, "data_region": regions}

    def _expected(self, random: np.random.Generator, who: IntArray, sizes: Sizes) -> FloatArray:
        """Seconds that the customer thinks it takes."""
        sigma = self._assumed.habits.estimate_sigma / 2
        guess = sizes.duration_s * self._customers.expects[who] * np.exp(sigma * random.standard_normal(len(who)))
        said = np.where(guess > COARSE_S, np.ceil(guess / COARSE_S) * COARSE_S, np.maximum(np.round(guess, 3), 0.001))
        return np.minimum(said, LONGEST_S)

    def _deadlines(self, random: np.random.Generator, times: FloatArray, expected: FloatArray, of: Sometimes) -> Column:
        slack = expected * (1.0 + lognormal(random, of, len(times)))
        ends = np.ceil(times + np.minimum(slack, LATEST_S))
        return [None if each is None else iso(each) for each in _some(random, ends, of.chance)]


def iso(at_s: float) -> str:
    """An instant with microseconds and Z."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _capped(random: np.random.Generator, of: FloatArray, cap: Cap, digits: int) -> Column:
    most = of * cap.median * np.exp(cap.sigma * random.standard_normal(len(of)))
    return _some(random, np.maximum(np.round(most, digits), _LEAST_USD), cap.chance)


def _whole(values: FloatArray) -> Column:
    return list(values.astype(np.int64).tolist())


def _words(values: FloatArray) -> Column:
    """As text; a family has such a figure in all of its requests, or in none."""
    return [None] * len(values) if np.isnan(values).any() else [f"{value:.10g}" for value in values.tolist()]


def _some(random: np.random.Generator, values: FloatArray, chance: float) -> Column:
    """The values of a share of rows, None for the rest."""
    is_stated = random.random(len(values)) < chance
    return [value if yes else None for value, yes in zip(values.tolist(), is_stated.tolist(), strict=True)]
