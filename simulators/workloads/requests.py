"""Requests as customers would send them; beside each the label that no classifier may see: true class, duration, worth."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from simulators.streams import FloatArray, IntArray
from simulators.workloads.assumed import MINING, Assumed
from simulators.workloads.customers import TIERS, Customers
from simulators.workloads.fitted import FittedNumbers
from simulators.workloads.sizes import Sizes, Sizing
from simulators.workloads.specifications import Column, Specifications, iso

WORKLOAD_TYPES: Final = ("ai_inference_realtime", "ai_inference_batch", "model_training", "bitcoin_mining")


class Submission(NamedTuple):
    """A customer's specification and when it is sent; a malformed one may be anything. `label` is the truth, which isn't sent."""

    at_s: float
    idempotency_key: str
    customer_id: str
    spec: Any
    label: dict[str, Any]

    def line(self) -> dict[str, Any]:
        """As it stands in a file, one a line."""
        return {
            "submitted_at": iso(self.at_s),
            "idempotency_key": self.idempotency_key,
            "customer_id": self.customer_id,
            "spec": self.spec,
            "label": self.label,
        }


class Requests:
    """Makes the requests of one family."""

    def __init__(self, name: str, assumed: Assumed, fitted: FittedNumbers, customers: Customers) -> None:
        self._name, self._assumed, self._fitted, self._customers = name, assumed, fitted, customers
        self._kind = assumed.families[name]
        self._sizing = Sizing(name, assumed, fitted, customers)
        self._specifications = Specifications(name, assumed, customers)
        prices = fitted.prices
        self._gpu_price = np.array([prices.on_demand_usd_per_gpu_hour[gpu.priced_as] for gpu in assumed.gpus.values()])
        self._tier_share = np.array([prices.share_by_tier[tier] for tier in TIERS])
        self._last = -1

    def rows(
        self, random: np.random.Generator, times: FloatArray
    ) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """(customer, specification, label) of each arrival."""
        again = self._fitted.customers.asks_again
        who = self._customers.draw(self._name, random, len(times), again, self._last)
        self._last = int(who[-1])
        sizes = self._sizing.draw(random, who)
        price = self._price(who, sizes)
        columns = self._specifications.columns(random, times, who, sizes, price, self._worth(sizes, price))
        rows = zip(
            who.tolist(), self._stated(random, who), self._labels(who, sizes, price), *map(_rows, columns), strict=True
        )
        for customer, stated, label, spec, sla_parameters, labels in rows:
            known = {"workload_type": stated} | spec if stated else spec
            for name, members in (("sla_parameters", sla_parameters), ("labels", labels)):
                if members:
                    known[name] = members
            yield self._customers.ids[customer], known, label

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

    def _stated(self, random: np.random.Generator, who: IntArray) -> Column:
        """The class that a request says it is of; seldom a wrong one."""
        n, habits = len(who), self._assumed.habits
        if self._name == MINING:  # nothing else would tell an order for hashrate
            return [self._kind.workload_type] * n
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


def _rows(columns: dict[str, Column]) -> Iterator[dict[str, Any]]:
    """A row a request, without what it does not state."""
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield {name: value for name, value in zip(names, values, strict=True) if value is not None}
