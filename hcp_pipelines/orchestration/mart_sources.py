"""The tables that the marts are made of: made, empty, where nobody has written them yet, so that each mart is there at once.

Names as in dbt/models/sources.yml; columns are those of the tables' own writers.
"""

from typing import Any

import polars as pl

from hcp_pipelines.collector.tables import APPENDED, REPLACED
from hcp_pipelines.forecasting.quantile_scores import empty_scores
from hcp_pipelines.optimizer.backtest import record
from hcp_pipelines.orchestration.billing import publish as billing
from hcp_pipelines.orchestration.billing.days import BILLING
from hcp_pipelines.orchestration.history.joined import MADE
from hcp_pipelines.orchestration.history.tables import DA_CAPACITY, DA_SPP, OBLIGATIONS, POOL_CREDITS, POOL_STATEMENTS
from hcp_pipelines.orchestration.lake_state import has_columns, has_tables
from hcp_pipelines.orchestration.settlement import publish as settlement
from hcp_pipelines.orchestration.settlement.days import SWITCHES
from hcp_pipelines.orchestration.settlement.regret import REGRET
from hcp_pipelines.orchestration.settlement.settled import SETTLED_DAYS
from hcp_pipelines.orchestration.watching import SCORES
from hcp_pipelines.settings import Settings

PRICES, NETWORK = "core.power__settled_prices", "core.bitcoin__network"
FETCHED = (DA_SPP, DA_CAPACITY, OBLIGATIONS, POOL_CREDITS, POOL_STATEMENTS)
COLLECTED = tuple(table.target for table in (*APPENDED, *REPLACED))
TELEMETRY = ("raw.telemetry", "core.telemetry_group_1min", "core.telemetry_1h")
SWITCHES_OF_GATEWAYS = "raw.gateway_switches"  # as collector/switch_log.py has it


def columns() -> dict[str, dict[str, Any]]:
    """By table, its columns with their types; the daemons' tables apart, whose columns are Arrow's."""
    return {
        **dict.fromkeys(record.TABLES, record.SCHEMA),
        **{table.name: dict(table.model.columns) for table in FETCHED},
        **{name: dict(MADE[name].columns) for name in (PRICES, NETWORK)},
        SCORES: dict(empty_scores().schema),
        settlement.LINES: settlement.SETTLEMENT,
        settlement.DAYS: SETTLED_DAYS | settlement.STAMP,
        settlement.SWITCH_VALUE: SWITCHES,
        settlement.REGRETS: REGRET,
        billing.LINES: BILLING,
        billing.DAYS: billing.BILLED_DAYS,
    }


def ensure_sources(settings: Settings) -> None:
    """Make those that are not there, and the columns of those that are older than this version.

    Raises:
        StorageError: the lake can't be reached, or refused every time.
    """
    schemas = columns()
    names = [*schemas, *COLLECTED, *TELEMETRY, SWITCHES_OF_GATEWAYS]
    if has_tables(settings, names) and has_columns(settings, schemas):
        return
    from hcp_pipelines.collector.switch_log import SCHEMA
    from hcp_pipelines.collector.telemetry.rollups import prepare_rollups
    from hcp_pipelines.collector.telemetry.store import prepare
    from hcp_pipelines.storage import lake, lake_tables

    wanted = {table.target: table.schema for table in (*APPENDED, *REPLACED)} | {SWITCHES_OF_GATEWAYS: SCHEMA}
    wanted |= {name: pl.DataFrame(schema=schema).to_arrow().schema for name, schema in schemas.items()}

    def prepare_telemetry(connection: Any) -> None:
        prepare(connection)
        prepare_rollups(connection)

    with lake.attach(settings) as connection:
        with lake.table_lock(settings, *TELEMETRY):
            lake.retried(lambda: prepare_telemetry(connection), "making the tables of telemetry")
        lake_tables.ensure(connection, settings, wanted)
