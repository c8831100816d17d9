"""Profitability scores (EC-10 to EC-14 with the corrections ER-01 … ER-08): columns in, columns out.

One row per resource and use that it could serve. The ranking is `usd_per_mwh`, net profit per MWh of site power, against
`next_best_usd_per_mwh`, what that power would earn otherwise (`rivals.py`); `score` is the margin for those who want 0–100.
"""

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from hcp_pipelines.domain.modes import Mode
from hcp_pipelines.economics.bounds import LIMITS, ImplausibleValueError, checked_columns
from hcp_pipelines.economics.rivals import Floats, Ints, SiteUses, rank

ALLOCATE, HOLD, SWITCH = "allocate", "hold", "switch"
CONFIDENCE = {"GPU": 0.85, "ASIC": 0.90}  # EC-12, EC-14: how much is believed with inputs in order (settings, ER-22)
OTHER_CONFIDENCE = 0.8
SITE_SCHEMA = {"site_id": pl.String, "limit_mw": pl.Float64, "resting_usd_per_mwh": pl.Float64}
_CHECKED = ("revenue_usd_per_hour", "power_kw", "price_usd_per_mwh", "switch_usd", "dwell_h", "confidence_factor")
_RECOMMENDATIONS = pl.Enum([ALLOCATE, HOLD, SWITCH])


@dataclass(frozen=True, slots=True)
class ProfitabilityScore:
    """One scored use (EC-10): dollars per hour, `usd_per_mwh` of site power; the fields are `SCORE_COLUMNS`."""

    resource_id: str
    workload_type: str
    score: float
    expected_revenue: float
    estimated_cost: float
    net_profit: float
    usd_per_mwh: float
    next_best_usd_per_mwh: float
    confidence: float
    recommendation: str


SCORE_SCHEMA = {f.name: pl.String if f.type is str else pl.Float64 for f in fields(ProfitabilityScore)} | {
    "recommendation": _RECOMMENDATIONS
}
SCORE_COLUMNS = tuple(SCORE_SCHEMA)


def score_uses(uses: pl.DataFrame, sites: pl.DataFrame | None = None) -> pl.DataFrame:
    """One scored row per use, `SCORE_COLUMNS`, in the order given; dollars are per hour and resource.

    `recommendation`, against the best other use of the same resource, sleep, and whoever else wants the site's power, all net
    of their switches: `allocate` — run it; `hold` — the difference is within the cost of the switch, so leave what is;
    `switch` — another use of the power is better.

    Args:
        uses: a row per resource and use with `resource_id` (a name, or quicker an integer), `site_id`, `type` ('ASIC' | 'GPU'),
            `workload_type`, `revenue_usd_per_hour` (after pool fee and utilization), `power_kw` (all-in, at the meter),
            `price_usd_per_mwh` (all-in marginal), `switch_usd` (one switch into this use), `is_present` (runs it now),
            `dwell_h` (hours a switch is spread over), `confidence_factor` (1, or less where an input is doubtful).
        sites: where power is scarce or rest is paid for: `SITE_SCHEMA`, the MW that may run and what a MWh earns that nobody
            takes (demand response; 0 where power is bought as it is used). A site left out has enough.

    Raises:
        ImplausibleValueError: a value is null, not a number or outside its limit; the message names row, value and limit.
    """
    column = checked_columns(uses, *_CHECKED)
    for name in ("resource_id", "site_id", "is_present"):
        if uses[name].null_count():
            raise ImplausibleValueError(f"row {uses[name].is_null().arg_max()}: {name} is null: every use needs one")
    value, next_best, words = _ranked(uses, column, sites)
    revenue, cost = pl.col("revenue_usd_per_hour"), pl.col("power_kw") / 1000 * pl.col("price_usd_per_mwh")
    return uses.select(
        "resource_id",
        "workload_type",
        score=pl.when(revenue > 0).then(((revenue - cost) / revenue * 100).clip(0.0, 100.0)).otherwise(0.0).round(2),
        expected_revenue=revenue,
        estimated_cost=cost,
        net_profit=revenue - cost,
        usd_per_mwh=pl.lit(pl.Series(value)),
        next_best_usd_per_mwh=pl.lit(pl.Series(next_best)),
        confidence=(_confidence() * pl.col("confidence_factor")).round(2),
        recommendation=pl.lit(pl.Series(words)).cat.to(_RECOMMENDATIONS),
    )


def is_workload(mode: Mode) -> bool:
    """Whether a mode earns: the four workload types (ER-07)."""
    return mode not in (Mode.IDLE, Mode.CURTAILED)


def confidence_factor(age_s: float, stale_after_s: float) -> float:
    """How much an input of this age is believed: wholly until half its staleness limit, then ever less, at the limit not at all.

    >>> [confidence_factor(age, 900.0) for age in (0.0, 450.0, 675.0, 900.0, 5000.0)]
    [1.0, 1.0, 0.5, 0.0, 0.0]

    Raises:
        ImplausibleValueError: an age that is negative or no number, or a limit that is not above 0.
    """
    if not age_s >= 0 or not stale_after_s > 0:
        raise ImplausibleValueError(
            f"age_s={age_s:g}, stale_after_s={stale_after_s:g}: must be at least 0, and above 0"
        )
    return min(1.0, max(0.0, 2 * (1 - age_s / stale_after_s)))


def _ranked(
    uses: pl.DataFrame, column: dict[str, Floats], sites: pl.DataFrame | None
) -> tuple[Floats, Floats, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    """Value and next best in $/MWh, and the recommendation's number, of each row; site by site."""
    mw = column["power_kw"] / 1000
    per_mw = np.divide(1.0, mw, out=np.zeros_like(mw), where=mw > 0)  # what takes no power is worth nothing per MWh
    value = column["revenue_usd_per_hour"] * per_mw - column["price_usd_per_mwh"] * (mw > 0)
    switch = column["switch_usd"] * per_mw / column["dwell_h"]
    ids, is_present = uses["resource_id"], uses["is_present"].to_numpy()
    resource = ids.cast(pl.Int64).to_numpy() if ids.dtype.is_integer() else _coded(ids)[1]
    names, site = _coded(uses["site_id"])
    known = _known(sites)
    next_best, words = np.empty(len(mw)), np.empty(len(mw), dtype=np.uint8)
    for code, name in enumerate(names):
        at = np.flatnonzero(site == code)
        limit_mw, resting = known.get(name, (np.inf, 0.0))
        found = rank(SiteUses(resource[at], value[at], switch[at], mw[at], is_present[at], resting, limit_mw))
        next_best[at] = found.next_best
        words[at] = np.where(found.is_allocated, 0, np.where(found.is_held, 1, 2))
    return value, next_best, words


def _known(sites: pl.DataFrame | None) -> dict[str, tuple[float, float]]:
    """Limit in MW and what rest earns, by site."""
    known: dict[str, tuple[float, float]] = {}
    for name, limit_mw, resting in () if sites is None else sites.select(*SITE_SCHEMA).iter_rows():
        if name in known:
            raise ImplausibleValueError(f"site {name} is there twice: one row a site")
        if limit_mw is None or not limit_mw >= 0:
            raise ImplausibleValueError(
                f"site {name}: limit_mw={limit_mw}: must be at least 0 MW, infinite for no limit"
            )
        if resting is None or not LIMITS["price_usd_per_mwh"].has(resting):
            raise ImplausibleValueError(
                f"site {name}: resting_usd_per_mwh={resting}: must be {LIMITS['price_usd_per_mwh']}"
            )
        known[name] = (limit_mw, resting)
    return known


def _coded(names: pl.Series) -> tuple[list[str], Ints]:
    """The distinct names, and each row's place among them."""
    if not isinstance(names.dtype, pl.Enum):
        names = names.cast(pl.String)
        names = names.cast(pl.Enum(names.unique(maintain_order=True)))
    assert isinstance(names.dtype, pl.Enum)
    return names.dtype.categories.to_list(), names.to_physical().cast(pl.Int64).to_numpy()


def _confidence() -> pl.Expr:
    kind = pl.col("type")
    gpu, asic = CONFIDENCE["GPU"], CONFIDENCE["ASIC"]
    return pl.when(kind == "ASIC").then(asic).when(kind == "GPU").then(gpu).otherwise(OTHER_CONFIDENCE)
