"""What was fitted to traces, as `fitted.yaml` holds it: arrivals and sizes by family of work, prices. `fit` writes the file."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from simulators.workloads.distributions import Fitted, Gaps, Quantiles

PATH = Path(__file__).with_name("fitted.yaml")

Quantity = Literal["input_tokens", "output_tokens", "duration_s"]


class Goodness(Fitted):
    """KS distances of what is made from the held-out end of the trace, and of the trace's own two parts from each other.

    `dispersion` is of counts by window, variance over mean: of the part that was fitted, and of what is made.
    """

    gaps_ks: float
    gaps_ks_of_trace: float
    sizes_ks: dict[Quantity, float]
    sizes_ks_of_trace: dict[Quantity, float]
    dispersion_trace: float
    dispersion_made: float


class Arrivals(Fitted):
    """A rate that follows the day and wanders, and gaps in its time. `profile` by hour, None where the trace is too short."""

    gaps: Gaps
    window_s: int = Field(gt=0)  # the rate is level within one
    wander: float = Field(ge=0, le=3)  # standard deviation of the rate's logarithm
    wander_tau_s: float = Field(gt=0)  # its correlation falls by e in that time
    profile: tuple[float, ...] | None = Field(default=None, min_length=24, max_length=24)


class Family(Fitted):
    """One kind of work and the trace it was fitted to."""

    source: str
    licence: str
    fitted_rows: int
    held_out_rows: int
    arrivals: Arrivals
    sizes: dict[Quantity, Quantiles]
    goodness: Goodness


class Customers(Fitted):
    """How unequally customers ask, and how often one asks again right after itself."""

    source: str
    zipf_exponent: float = Field(gt=0, le=3)
    asks_again: float = Field(ge=0, lt=1)


class Prices(Fitted):
    """Dollars: on demand by GPU, and what classes and tiers pay of it; what a PH/s of hashrate earns a day."""

    source: str
    on_demand_usd_per_gpu_hour: dict[str, float]
    share_by_class: dict[str, float]
    share_by_tier: dict[str, float]
    hashprice_usd_per_ph_day: float = Field(gt=0)
    hashprice_source: str


class FittedNumbers(Fitted):
    """The whole file."""

    fitted_on: str
    families: dict[str, Family]
    gpus_per_training: dict[int, float]
    customers: Customers
    prices: Prices


@cache
def load() -> FittedNumbers:
    """The numbers in force."""
    return FittedNumbers.model_validate(yaml.safe_load(PATH.read_text()))
