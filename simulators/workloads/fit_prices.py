"""What GPU-hours and hashes are paid, from listings and the network's record; how unequally customers ask, from one trace."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from simulators.workloads.fitted import Customers, Prices

CARD: Final = "gpu_rate_card_2026-07-20.csv"
MARKET: Final = "gpu_market_30min.parquet"
LEAST_OFFERS: Final = 2  # of a kind, for its median to count
_KIND_OF_CLASS: Final = {
    "ai_inference_realtime": "serverless",
    "ai_inference_batch": "spot",
    "model_training": "on-demand",
}
_LEVEL_OF_TIER: Final = {"free": 0.25, "pro": 0.5, "enterprise": 0.75}
_HASHPRICE_DAYS: Final = 30
_PRICE: Final = "usd_per_gpu_hour"


def fit_prices(data: Path) -> Prices:
    """The middle of on-demand offers by GPU; what a class pays of it, by a kind of offer; what a tier pays, by quartile."""
    market = pl.read_parquet(data / "gpu" / MARKET)
    middle = market.group_by("gpu_type").agg(pl.col("median_usd_per_gpu_hour").median().alias(_PRICE)).sort("gpu_type")
    card = pl.read_csv(data / "gpu" / CARD)
    network = pl.read_parquet(data / "btc" / "bitcoin_network_daily.parquet").tail(_HASHPRICE_DAYS)
    return Prices(
        source="offers at Prime Intellect, 2025-10-19 to 2025-11-01 (MIT); shares from the rate card of 2026-07-20"
        " (CC BY 4.0, gpurentalprices.com)",
        on_demand_usd_per_gpu_hour={str(gpu): round(float(price), 4) for gpu, price in middle.rows()},
        share_by_class={name: _share(card, kind, 0.5) for name, kind in _KIND_OF_CLASS.items()},
        share_by_tier={name: _share(card, "on-demand", level) for name, level in _LEVEL_OF_TIER.items()},
        hashprice_usd_per_ph_day=round(float(np.median(network["hashprice_usd_per_ph_per_day_derived"])), 4),
        hashprice_source="Coin Metrics community data, median of the 30 days to 2025-05-31",
    )


def fit_customers(customers: list[str]) -> Customers:
    """Zipf's exponent by maximum likelihood over the ranks; and how often a customer asks twice running, beyond chance."""
    counts = np.array(sorted(Counter(customers).values(), reverse=True), dtype=float)
    logs = np.log(np.arange(1, len(counts) + 1))
    exponents = np.arange(0.2, 2.0, 0.001)
    likelihood = [-each * (counts @ logs) - counts.sum() * np.log(np.exp(-each * logs).sum()) for each in exponents]
    chance = float(np.square(counts / counts.sum()).sum())
    same = float(np.mean([one == other for one, other in pairwise(customers)]))
    return Customers(
        source="Alibaba GenAI request trace v2026, groupId",
        zipf_exponent=round(float(exponents[int(np.argmax(likelihood))]), 3),
        asks_again=round(max((same - chance) / (1 - chance), 0.0), 4),
    )


def _share(card: pl.DataFrame, kind: str, level: float) -> float:
    """A quantile of one kind's offers over the median on demand; the median over GPUs that have enough of both."""
    ratios = []
    for (_,), offers in card.group_by(["gpu"], maintain_order=True):
        kinds = [offers.filter(pl.col("kind") == each)[_PRICE].to_numpy() for each in (kind, "on-demand")]
        if min(len(each) for each in kinds) >= LEAST_OFFERS:
            ratios.append(float(np.quantile(kinds[0], level) / np.median(kinds[1])))
    return round(float(np.median(ratios)), 4)
