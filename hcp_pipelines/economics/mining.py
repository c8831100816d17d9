"""Bitcoin mining revenue: coins per day, hashprice, break-even power price; scalars, with column twins of what is used wide.

Power cost is in `power.py`. A hashprice here is always in $ per PH/s per day ($/PH/day).
"""

import polars as pl

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
    if height < 0:
        raise ValueError(f"block height {height} is negative")
    return FIRST_SUBSIDY_BTC / 2.0 ** (height // HALVING_BLOCKS)


def btc_per_day(hash_rate_th_per_s: float, difficulty: float, subsidy: float, fees_btc_per_block: float) -> float:
    """Expected BTC a day of a hashrate: H · 86,400 · (subsidy + fees) / (D · 2^32).

    `fees_btc_per_block` is a 144-block trailing mean (FACTS 1.2).
    Source: difficulty-1 target, FACTS 1.1; ER-01 for what circulates.

    >>> round(btc_per_day(1000, 148.26e12, 3.125, 3.125 * 0.0055), 6)  # published 0.00043143, at a staler difficulty
    0.000426
    """
    _refuse_not_positive(difficulty=difficulty)
    hashes = hash_rate_th_per_s * HASHES_PER_TH
    return hashes * SECONDS_PER_DAY * (subsidy + fees_btc_per_block) / (difficulty * HASHES_PER_DIFFICULTY)


def hashprice_usd_per_ph_day(btc_usd: float, difficulty: float, fees_btc_per_block: float, height: int) -> float:
    """Revenue in $ per PH/s and day, before pool fee: the index that mining strikes are affine in.

    >>> round(hashprice_usd_per_ph_day(87_235, 101.65e12, 3.125 * 0.0482, 870_000), 1)  # published: 55.97
    56.5
    """
    return btc_usd * btc_per_day(HASHES_PER_PH / HASHES_PER_TH, difficulty, subsidy_btc(height), fees_btc_per_block)


def break_even_usd_per_mwh(hashprice: float, efficiency_j_per_th: float) -> float:
    """Power price in $/MWh of IT power at which a machine earns nothing, before PUE, pool fee and other cost.

    `hashprice` in $/PH/day. With $/TH/day the same expression would be off by 1000 (FACTS 1.3, ER-01).

    >>> [round(break_even_usd_per_mwh(39.53, e)) for e in (17.5, 13.5, 18.5, 21.5)]
    [94, 122, 89, 77]
    """
    _refuse_not_positive(efficiency_j_per_th=efficiency_j_per_th)
    return hashprice / (efficiency_j_per_th * J_PER_TH_TO_BREAK_EVEN)


def power_kw(hash_rate_th_per_s: float, efficiency_j_per_th: float) -> float:
    """IT power in kW of a machine: TH/s · J/TH is watts (ER-02).

    >>> power_kw(270, 13.5)
    3.645
    """
    return hash_rate_th_per_s * efficiency_j_per_th / 1000


def revenue_usd_per_hour(hash_rate_th_per_s: float, hashprice: float, pool_fee_fraction: float = 0.0) -> float:
    """Revenue in $/h of a hashrate at a hashprice in $/PH/day.

    >>> round(revenue_usd_per_hour(200, 48.0), 3)
    0.4
    """
    return hash_rate_th_per_s / 1000 * hashprice / 24 * (1 - pool_fee_fraction)


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


def _refuse_not_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: must be above 0")
