"""Bitcoin mining revenue: coins per day, hashprice, break-even power price; scalars, with column twins of what is used wide.

Power cost is in `power.py`. A hashprice here is always in $ per PH/s per day ($/PH/day).
"""

import polars as pl

from hcp_pipelines.economics.bounds import ImplausibleValueError, check, checked_columns

HASHPRICE = "hashprice"  # the index by this name in policies, in $/PH/day
SECONDS_PER_DAY = 86_400
HASHES_PER_DIFFICULTY = 2**32  # exactly 2^48/65535, 0.0015 % more: neglected (FACTS 1.1)
HALVING_BLOCKS = 210_000
FIRST_SUBSIDY_BTC = 50.0
HASHES_PER_TH = 1e12
HASHES_PER_PH = 1e15
J_PER_TH_TO_BREAK_EVEN = 0.024  # J/TH · 1000 TH/PH · 24 h / 10^6 W/MW


def subsidy_btc(height: int) -> float:
    """Block subsidy in BTC at a block height: 50, halved every 210,000 blocks.

    Source: bitcoin/bitcoin src/kernel/chainparams.cpp (FACTS 1.7).

    >>> subsidy_btc(839_999), subsidy_btc(840_000), subsidy_btc(1_050_000)
    (6.25, 3.125, 1.5625)
    """
    check(height=height)
    return FIRST_SUBSIDY_BTC / 2.0 ** (height // HALVING_BLOCKS)


def btc_per_day(
    hash_rate_th_per_s: float, difficulty: float, height: int, fees_btc_per_block: float, pool_fee_fraction: float = 0.0
) -> float:
    """Expected BTC a day of a hashrate: H · 86,400 · (subsidy(height) + fees) / (D · 2^32) · (1 − pool fee).

    `fees_btc_per_block` is a 144-block trailing mean (FACTS 1.2).
    Source: difficulty-1 target, FACTS 1.1; ER-01 for what circulates.

    >>> round(btc_per_day(1000, 148.26e12, 930_000, 3.125 * 0.0055), 6)  # published 0.00043143, at a staler difficulty
    0.000426
    """
    check(hash_rate_th_per_s=hash_rate_th_per_s, difficulty=difficulty, fees_btc_per_block=fees_btc_per_block)
    check(pool_fee_fraction=pool_fee_fraction)
    hashes_per_day = hash_rate_th_per_s * HASHES_PER_TH * SECONDS_PER_DAY
    per_block = subsidy_btc(height) + fees_btc_per_block
    return hashes_per_day * per_block / (difficulty * HASHES_PER_DIFFICULTY) * (1 - pool_fee_fraction)


def hashprice_usd_per_ph_day(btc_usd: float, difficulty: float, fees_btc_per_block: float, height: int) -> float:
    """Revenue in $ per PH/s and day, before pool fee: the index that mining strikes are affine in.

    >>> round(hashprice_usd_per_ph_day(87_235, 101.65e12, 3.125 * 0.0482, 870_000), 1)  # published: 55.97
    56.5
    """
    check(btc_usd=btc_usd)
    return btc_usd * btc_per_day(HASHES_PER_PH / HASHES_PER_TH, difficulty, height, fees_btc_per_block)


def break_even_usd_per_mwh(
    hashprice: float, efficiency_j_per_th: float, pue: float = 1.0, pool_fee_fraction: float = 0.0
) -> float:
    """Power price in $/MWh at the meter at which a machine earns nothing: hashprice · (1 − fee) / (J/TH · 0.024 · PUE).

    `hashprice` in $/PH/day. With $/TH/day the same expression would be off by 1000 (FACTS 1.3, ER-01).

    >>> [round(break_even_usd_per_mwh(39.53, e)) for e in (17.5, 13.5, 18.5, 21.5)]
    [94, 122, 89, 77]
    """
    check(hashprice_usd_per_ph_day=hashprice, efficiency_j_per_th=efficiency_j_per_th, pue=pue)
    check(pool_fee_fraction=pool_fee_fraction)
    return hashprice * (1 - pool_fee_fraction) / (efficiency_j_per_th * J_PER_TH_TO_BREAK_EVEN * pue)


def with_break_evens(
    profiles: pl.DataFrame, hashprice: float, pue: float = 1.0, pool_fee_fraction: float = 0.0
) -> pl.DataFrame:
    """The frame with break-even prices of each profile and of the step up to it, $/MWh at the meter.

    `break_even_usd_per_mwh` is the whole profile's against drawing nothing; `step_usd_per_mwh` is what the power that it takes
    beyond the profile below it earns: full over eco is given up at 0.7 of the model's own break-even, long before eco is.

    Args:
        profiles: a row per model and working profile with `model`, `hash_rate_th_per_s`, `power_kw` (IT), in any order.
        hashprice: $/PH/day.
        pue: all-in over IT power.
        pool_fee_fraction: the pool's share.

    Raises:
        ImplausibleValueError: a value outside its limit, or a profile that takes no more power than the one below it.
    """
    check(hashprice_usd_per_ph_day=hashprice, pue=pue, pool_fee_fraction=pool_fee_fraction)
    checked_columns(profiles, "hash_rate_th_per_s", "power_kw")
    rate, power = pl.col("hash_rate_th_per_s"), pl.col("power_kw")
    usd_per_th_hour = hashprice * (1 - pool_fee_fraction) / 1000 / 24
    more_rate, more_power = (c - c.shift(1).over("model").fill_null(0.0) for c in (rate, power))
    ladders = profiles.sort("model", "power_kw").with_columns(_step_kw=more_power)
    if not (ladders["_step_kw"] > 0).all():
        raise ImplausibleValueError(
            "power_kw: each profile of a model must take more than the one below it, the lowest above 0"
        )
    return ladders.with_columns(
        break_even_usd_per_mwh=usd_per_th_hour * rate / (power / 1000 * pue),
        step_usd_per_mwh=usd_per_th_hour * more_rate / (more_power / 1000 * pue),
    ).drop("_step_kw")


def power_kw(hash_rate_th_per_s: float, efficiency_j_per_th: float) -> float:
    """IT power in kW of a machine: TH/s · J/TH is watts (ER-02).

    >>> power_kw(270, 13.5)
    3.645
    """
    check(hash_rate_th_per_s=hash_rate_th_per_s, efficiency_j_per_th=efficiency_j_per_th)
    return hash_rate_th_per_s * efficiency_j_per_th / 1000


def revenue_usd_per_hour(hash_rate_th_per_s: float, hashprice: float, pool_fee_fraction: float = 0.0) -> float:
    """Revenue in $/h of a hashrate at a hashprice in $/PH/day.

    >>> round(revenue_usd_per_hour(200, 48.0), 3)
    0.4
    """
    check(
        hash_rate_th_per_s=hash_rate_th_per_s, hashprice_usd_per_ph_day=hashprice, pool_fee_fraction=pool_fee_fraction
    )
    return hash_rate_th_per_s / 1000 * hashprice / 24 * (1 - pool_fee_fraction)


def revenue_columns(hash_rate_th_per_s: pl.Expr, hashprice: pl.Expr, pool_fee_fraction: pl.Expr) -> pl.Expr:
    """`revenue_usd_per_hour` of columns; `hashprice` in $/PH/day."""
    return (hash_rate_th_per_s / 1000 * hashprice / 24 * (1 - pool_fee_fraction)).alias("revenue_usd_per_hour")


def subsidy_btc_columns(height: pl.Expr) -> pl.Expr:
    """`subsidy_btc` of a column of block heights."""
    return FIRST_SUBSIDY_BTC / pl.lit(2.0).pow(height // HALVING_BLOCKS)


def hashprice_columns(btc_usd: pl.Expr, difficulty: pl.Expr, fees_btc_per_block: pl.Expr, height: pl.Expr) -> pl.Expr:
    """`hashprice_usd_per_ph_day` of columns; null where the difficulty is not positive."""
    coins = (
        HASHES_PER_PH
        * SECONDS_PER_DAY
        * (subsidy_btc_columns(height) + fees_btc_per_block)
        / (pl.when(difficulty > 0).then(difficulty) * HASHES_PER_DIFFICULTY)
    )
    return (btc_usd * coins).alias("hashprice_usd_per_ph_day")
