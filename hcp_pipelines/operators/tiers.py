"""What each tier of customers may have at a time, and how often it may ask: rows that the queue and the API go by.

`anonymous` and `staff` have no work of their own, and so only a rate of requests.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from hcp_pipelines.operators.accounts import Operator, OperatorRole
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.orders import require

QUOTA = ("weight", "max_waiting", "max_gpus", "max_retries", "credit_fraction")
RATE = ("per_minute", "burst")
TABLES = {"tier_quotas": QUOTA, "request_limits": RATE}
_READ = """
    select r.tier, q.weight, q.max_waiting, q.max_gpus, q.max_retries, q.credit_fraction, r.per_minute, r.burst
    from request_limits r left join tier_quotas q using (tier) order by r.per_minute, r.tier"""


def tiers(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """A row a tier, by the names of `QUOTA` and `RATE`; None where it has none."""
    return [dict(zip(("tier", *QUOTA, *RATE), row, strict=True)) for row in connection.execute(_READ).fetchall()]


def set_tier(connection: psycopg.Connection[Any], operator: Operator, tier: str, changes: Mapping[str, float]) -> None:
    """Change a tier's limits. Submissions and claims go by them at once, API processes within half a minute.

    Raises:
        NotPermittedError: the operator is no admin.
    """
    require(connection, operator, "tier.limits_set", f"tier/{tier}", OperatorRole.ADMIN)
    with connection.transaction():
        for table, names in TABLES.items():
            own = [name for name in names if name in changes]
            if own:
                pairs = sql.SQL(", ").join(
                    sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in own
                )
                statement = sql.SQL("update {} set {} where tier = %(tier)s").format(sql.Identifier(table), pairs)
                connection.execute(statement, {"tier": tier, **changes})
        note(connection, operator.name, "tier.limits_set", f"tier/{tier}", **changes)
