"""What the pool says that it paid, by UTC day, and whether that is what its credits are worth: bodies of the asset and its check.

Credits by worker are in `pool`. The mart `fct_pool_days` has both, and what was settled, day by day.
"""

import asyncio
from datetime import datetime
from typing import Final

import polars as pl

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.economics.mining import HASHES_PER_DIFFICULTY, HASHES_PER_TH, SECONDS_PER_DAY
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Pace
from hcp_pipelines.markets.pool import SOURCE, PoolClient
from hcp_pipelines.orchestration.dbt_project import project_number
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.fetch import Window
from hcp_pipelines.orchestration.history.pool import at_the_pool
from hcp_pipelines.orchestration.history.publish import DAY, each_day
from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings

NETWORK: Final = "core.bitcoin__network"
LUCKS: Final = (10, 50, 250)
# As the mart has it: what credited hashes are worth by the day's mean difficulty and reward, less the fee that is told.
PAY_SQL: Final = f"""
with credited as (
    select {tables.START}, sum(hashrate_th_per_s) * {SECONDS_PER_DAY} * {HASHES_PER_TH} as hashes
    from lake.{tables.POOL_CREDITS.name} group by all)
select s.{tables.START} as day_at, s.earned_btc, coalesce(s.fee_fraction, 0) as fee_fraction,
    c.hashes / (n.difficulty * {HASHES_PER_DIFFICULTY}) * (n.issuance_btc / n.blocks + n.fees_btc_per_block)
        * (1 - coalesce(s.fee_fraction, 0)) as expected_btc
from lake.{tables.POOL_STATEMENTS.name} s join credited c using ({tables.START}) join lake.{NETWORK} n using ({tables.START})
where n.is_over order by s.{tables.START} desc limit 1"""  # noqa: S608 - our constants


def statements_of(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """What the pool says of the UTC days of the window: one row a day (`raw.pool__statements`).

    Raises:
        ConfigError: no pool is configured. MarketError: it does not tell these days. NotRunningError: the world is not there.
    """

    async def asked() -> pl.DataFrame:
        async with at_the_pool(settings) as (http, pace):
            return await read_statements(http, pace, window, now)

    return asyncio.run(asked())


async def read_statements(http: MarketHttp, pace: Pace, window: Window, now: datetime) -> pl.DataFrame:
    """As `statements_of`; the pace is that of its `http`.

    Raises:
        MarketError: no usable reply, or none of a day.
    """
    client = PoolClient(http)
    terms = await client.terms()
    pace.keep(terms.limit)
    earned = await client.rewards_btc(window[0].date(), (window[1] - DAY).date())
    days = list(each_day(window))
    if untold := [at.date() for at in days if at.date() not in earned]:
        raise MarketError(f"the pool tells no pay of {untold[0]}: it is not settled yet, or no longer kept.")
    luck = [terms.luck.get(blocks) for blocks in LUCKS]
    rows = [(at, earned[at.date()], terms.fee_fraction, *luck, now, SOURCE) for at in days]
    return pl.DataFrame(rows, schema=dict(tables.POOL_STATEMENTS.model.columns), orient="row")


def judge_pay(reader: Reader) -> Judged:
    """Whether the pay of the newest credited day is what the credits are worth, by the tolerance of the mart."""
    if not reader.has(tables.POOL_STATEMENTS.name, tables.POOL_CREDITS.name, NETWORK):
        return Judged(True, "no statements yet", {})
    return paid_as_credited(reader.rows(PAY_SQL, []))


def paid_as_credited(day: pl.DataFrame) -> Judged:
    """Whether `earned_btc` of a day, if there is one, is `expected_btc` but for what is tolerated below it; more is no fault."""
    if day.is_empty():
        return Judged(True, "no day has credits, pay and the network's figures yet", {})
    row = day.row(0, named=True)
    earned, expected = float(row["earned_btc"]), float(row["expected_btc"])
    said = {"day": f"{row['day_at']:%Y-%m-%d}", "earned_btc": earned, "expected_btc": round(expected, 8)}
    if expected <= 0:
        return Judged(True, f"{said['day']}: nothing was credited", said)
    said["paid_fraction"] = round(earned / expected, 4)
    words = f"{said['day']}: {earned:.8f} BTC paid, {expected:.8f} expected of what was credited"
    return Judged(earned >= expected * (1 - project_number("pay_tolerated")), words, said)
