"""What one customer may have at a time: what its tier has, or what it was given instead. Submissions and claims read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from hcp_pipelines.domain.errors import NotThereError
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.orders import require

LIMITS = ("weight", "max_waiting", "max_gpus", "max_retries")
_READ = """
    select c.email, c.tier, t.weight, t.max_waiting, t.max_gpus, t.max_retries,
           q.weight, q.max_waiting, q.max_gpus, q.max_retries,
           coalesce(q.refused_because, ''), coalesce(s.waiting, 0), coalesce(s.gpus, 0)
    from customers c join tier_quotas t using (tier) left join customer_quotas q on q.customer_id = c.id
    left join queue_customers s on s.customer_id = c.id where c.id = %s"""
_TIER = "update customers set tier = %s, updated_at = now() where id = %s"
_SET = """
    insert into customer_quotas (customer_id, updated_by, {columns}) values (%(customer)s, %(by)s, {values})
    on conflict (customer_id) do update set updated_by = %(by)s, updated_at = now(), {changes}"""


@dataclass(frozen=True, slots=True)
class Quota:
    """A customer's, beside its tier's: by the names of `LIMITS`; None: as the tier. `refused_because`: nothing more is taken."""

    email: str
    tier: str
    of_tier: Mapping[str, float]
    own: Mapping[str, float | None]
    refused_because: str
    waiting: int
    gpus: int


def quota_of(connection: psycopg.Connection[Any], customer_id: UUID) -> Quota:
    """What a customer may have, and has.

    Raises:
        NotThereError: there is no such customer.
    """
    row = connection.execute(_READ, (customer_id,)).fetchone()
    if row is None:
        raise NotThereError(
            f"no customer {customer_id}: `hcp user add NAME --role customer --customer EMAIL --tier TIER`"
        )
    of_tier, own = (dict(zip(LIMITS, row[start : start + 4], strict=True)) for start in (2, 6))
    return Quota(row[0], row[1], of_tier, own, *row[10:])


def set_quota(
    connection: psycopg.Connection[Any],
    operator: Operator,
    customer_id: UUID,
    changes: Mapping[str, Any],
    tier: str | None = None,
) -> None:
    """Give a customer its own limits, or None again as its tier; `refused_because` stops it, empty lets it go on.

    Work that is there keeps the tier under which it came.

    Raises:
        NotPermittedError: the operator may only look.
    """
    require(connection, operator, "customer.quota_set", f"customer/{customer_id}")
    with connection.transaction():
        if tier is not None:
            connection.execute(_TIER, (tier, customer_id))
        if changes:
            names = [sql.Identifier(name) for name in changes]
            statement = sql.SQL(_SET).format(
                columns=sql.SQL(", ").join(names),
                values=sql.SQL(", ").join(sql.Placeholder(name) for name in changes),
                changes=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in names),
            )
            connection.execute(statement, {"customer": customer_id, "by": operator.name, **changes})
        told = {**changes, **({} if tier is None else {"tier": tier})}
        note(connection, operator.name, "customer.quota_set", f"customer/{customer_id}", **told)
