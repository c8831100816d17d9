"""Requests as customers would send them; beside each the label that no classifier may see: true class, duration, worth."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np

from simulators.streams import FloatArray, IntArray
from simulators.workloads.assumed import MINING, Assumed, Sometimes
from simulators.workloads.customers import TIERS, Customers
from simulators.workloads.fitted import FittedNumbers
from simulators.workloads.sizes import Sizes, Sizing, lognormal

Column = list[Any]
WORKLOAD_TYPES: Final = ("ai_inference_realtime", "ai_inference_batch", "model_training", "bitcoin_mining")
COARSE_S: Final = 60.0  # people state durations above it in whole minutes
CAPS: Final = {
    "budget_usd": (0.5, 1.3, 0.3),
    "max_price": (0.4, 1.2, 0.2),
}  # chance, median and sigma over what it is worth
_LEAST_USD: Final = 1e-6


class Submission(NamedTuple):
    """One request and when it is sent. `label` is the truth about it, not part of what is sent."""

    at_s: float
    idempotency_key: str
    request: dict[str, Any]
    label: dict[str, Any]

    def line(self) -> dict[str, Any]:
        """As it stands in a file, one a line."""
        return {
            "submitted_at": iso(self.at_s),
            "idempotency_key": self.idempotency_key,
            "request": self.request,
            "label": self.label,
        }


class Requests:
    """Makes the requests of one family."""

    def __init__(self, name: str, assumed: Assumed, fitted: FittedNumbers, customers: Customers) -> None:
        self._name, self._assumed, self._fitted, self._customers = name, assumed, fitted, customers
        self._kind = assumed.families[name]
        self._sizing = Sizing(name, assumed, fitted, customers)
        self._gpus, self._models, self._regions = list(assumed.gpus), list(self._kind.models), list(assumed.regions)
        prices = fitted.prices
        self._gpu_price = np.array([prices.on_demand_usd_per_gpu_hour[gpu] for gpu in self._gpus])
        self._tier_share = np.array([prices.share_by_tier[tier] for tier in TIERS])
        self._last = -1

    def rows(self, random: np.random.Generator, times: FloatArray) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """(request, label) of each arrival."""
        again = self._fitted.customers.asks_again
        who = self._customers.draw(self._name, random, len(times), again, self._last)
        self._last = int(who[-1])
        sizes = self._sizing.draw(random, who)
        price = self._price(who, sizes)
        spec = self._spec(random, times, who, sizes, price)
        names = list(spec)
        specs = zip(*spec.values(), strict=True)
        stated, labels = self._stated(random, who), self._labels(who, sizes, price)
        for customer, kind, values, label in zip(who.tolist(), stated, specs, labels, strict=True):
            stated_first = {} if kind is None else {"workload_type": kind}
            known = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            yield {"customer_id": self._customers.ids[customer], "spec": stated_first | known}, label

    def _price(self, who: IntArray, sizes: Sizes) -> FloatArray:
        """Dollars that the customer pays, a GPU-hour; of mining a PH/s-day."""
        pays = self._customers.pays[who] * self._tier_share[self._customers.tier[who]]
        if self._name == MINING:
            return np.asarray(pays * self._fitted.prices.hashprice_usd_per_ph_day)
        return np.asarray(
            pays * self._gpu_price[sizes.gpu] * self._fitted.prices.share_by_class[self._kind.workload_type]
        )

    def _worth(self, sizes: Sizes, price: FloatArray) -> FloatArray:
        """Dollars of the whole request."""
        if self._name == MINING:
            return np.asarray(price * sizes.hashrate_th_per_s / 1000.0 * sizes.duration_s / 86_400.0)
        return np.asarray(price * sizes.gpu_count * sizes.duration_s / 3600.0)

    def _spec(
        self, random: np.random.Generator, times: FloatArray, who: IntArray, sizes: Sizes, price: FloatArray
    ) -> dict[str, Column]:
        """Columns of a specification, None where a request has no such member."""
        n, kind = len(times), self._kind
        expected = self._expected(random, who, sizes)
        columns: dict[str, Column] = {}
        if self._name == MINING:
            columns["hashrate_th_per_s"] = sizes.hashrate_th_per_s.tolist()
        else:
            is_open = self._customers.leaves_gpu_open[who].tolist()
            columns |= {
                "model_name": [self._models[each] for each in sizes.model.tolist()],
                "model_parameters_billion": sizes.parameters_billion.tolist(),
                "gpu_type": [
                    None if skip else self._gpus[each] for each, skip in zip(sizes.gpu.tolist(), is_open, strict=True)
                ],
                "gpu_count": sizes.gpu_count.astype(np.int64).tolist(),
                "memory_gb": sizes.memory_gb.tolist(),
                "batch_size": sizes.batch.tolist(),
                "input_tokens": _whole(sizes.input_tokens),
                "output_tokens": _whole(sizes.output_tokens),
            }
        if kind.workload_type == "model_training":
            columns["is_training"] = [True] * n
        if kind.latency_ms is not None:
            latency = np.clip(lognormal(random, kind.latency_ms, n), kind.latency_ms.least, kind.latency_ms.most - 1.0)
            columns["max_latency_ms"] = _some(random, np.round(latency), kind.latency_ms.chance)
        columns["estimated_duration_s"] = expected.tolist()
        columns["interruptible"] = (random.random(n) < kind.interruptible).tolist()
        if kind.deadline is not None:
            columns["deadline_at"] = self._deadlines(random, times, expected, kind.deadline)
        if kind.checkpoint_s is not None:
            chosen = _sometimes(random, kind.checkpoint_s, n)
            columns["checkpoint_interval_s"] = chosen
        if kind.data is not None:
            gb = np.round(kind.data.median_gb * np.exp(kind.data.sigma * random.standard_normal(n)), 1)
            columns["data_gb"] = _some(random, gb, kind.data.chance)
            home = self._customers.region[who].tolist()
            columns["data_region"] = [
                None if each is None else self._regions[region]
                for each, region in zip(columns["data_gb"], home, strict=True)
            ]
        return columns | self._caps(random, sizes, price)

    def _expected(self, random: np.random.Generator, who: IntArray, sizes: Sizes) -> FloatArray:
        """Seconds that the customer thinks it takes."""
        sigma = self._assumed.habits.estimate_sigma / 2
        guess = sizes.duration_s * self._customers.expects[who] * np.exp(sigma * random.standard_normal(len(who)))
        return np.where(guess > COARSE_S, np.ceil(guess / COARSE_S) * COARSE_S, np.maximum(np.round(guess, 3), 0.001))

    def _deadlines(self, random: np.random.Generator, times: FloatArray, expected: FloatArray, of: Sometimes) -> Column:
        ends = times + expected * (1.0 + lognormal(random, of, len(times)))
        return [None if each is None else iso(each) for each in _some(random, np.ceil(ends), of.chance)]

    def _caps(self, random: np.random.Generator, sizes: Sizes, price: FloatArray) -> dict[str, Column]:
        """What a customer will not go beyond: of the whole, and of the price."""
        unit = "max_usd_per_ph_day" if self._name == MINING else "max_usd_per_gpu_hour"
        columns: dict[str, Column] = {}
        for name, of, digits in (("budget_usd", self._worth(sizes, price), 6), (unit, price, 4)):
            chance, median, sigma = CAPS["budget_usd" if name == "budget_usd" else "max_price"]
            most = of * median * np.exp(sigma * random.standard_normal(len(of)))
            columns[name] = _some(random, np.maximum(np.round(most, digits), _LEAST_USD), chance)
        return columns

    def _stated(self, random: np.random.Generator, who: IntArray) -> Column:
        """The class that a request says it is of; seldom a wrong one."""
        n, habits = len(who), self._assumed.habits
        says = random.random(n) < self._customers.states_type[who]
        right = WORKLOAD_TYPES.index(self._kind.workload_type)
        wrong = (right + random.integers(1, len(WORKLOAD_TYPES), n)) % len(WORKLOAD_TYPES)
        said = np.where(random.random(n) < habits.states_wrong_type, wrong, right)
        return [WORKLOAD_TYPES[each] if yes else None for each, yes in zip(said.tolist(), says.tolist(), strict=True)]

    def _labels(self, who: IntArray, sizes: Sizes, price: FloatArray) -> Iterator[dict[str, Any]]:
        unit = "value_usd_per_ph_day" if self._name == MINING else "value_usd_per_gpu_hour"
        tiers = [TIERS[each] for each in self._customers.tier[who].tolist()]
        worth = np.round(self._worth(sizes, price), 6).tolist()
        seconds = np.round(sizes.duration_s, 3).tolist()
        prices = np.round(price, 4).tolist()
        for tier, dollars, each, duration_s in zip(tiers, worth, prices, seconds, strict=True):
            yield {
                "workload_type": self._kind.workload_type, "family": self._name, "tier": tier, "duration_s": duration_s,
                unit: each, "value_usd": dollars, "ambiguity": None, "defect": None,
            }  # fmt: skip


def iso(at_s: float) -> str:
    """An instant with microseconds and Z."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _whole(values: FloatArray) -> Column:
    return [None] * len(values) if np.isnan(values).any() else values.astype(np.int64).tolist()


def _some(random: np.random.Generator, values: FloatArray, chance: float) -> Column:
    """The values of a share of rows, None for the rest."""
    return [
        value if yes else None for value, yes in zip(values.tolist(), random.random(len(values)) < chance, strict=True)
    ]


def _sometimes(random: np.random.Generator, of: Sometimes, count: int) -> Column:
    return _some(random, np.ceil(lognormal(random, of, count)), of.chance)
