"""What the grid says, as operators pass it on: deployments, recalls, base points. A facility's owner carries it out.

What is taken on is in `grid`. Instants are simulated.
"""

import uuid
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DispatchRegime
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.grid import locked_row, name_of
from hcp_pipelines.operators.orders import require

_IS_CALLED = """
    select coalesce(max(s.effective_at) filter (where s.kind = 'deploy')
                    > greatest(max(s.effective_at) filter (where s.kind = 'recall'), max(o.recalled_at), '-infinity'), false)
    from grid_obligations o
    join grid_signals s on s.facility_id = o.facility_id and s.kind in ('deploy', 'recall')
        and (s.payload ->> 'obligation_id')::bigint = o.id
    where o.id = %s"""
CALLABLE = frozenset({"awarded", "armed"})
_SIGNAL = """
    insert into grid_signals (kind, facility_id, payload, source, source_event_id, effective_at, received_at)
    values (%s, %s, %s, %s, %s, %s, %s)"""


def deploy(connection: psycopg.Connection[Any], operator: Operator, number: int, now: datetime, reason: str) -> str:
    """Pass a deployment on, effective now; its facility.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: there is no such obligation, or it can't be deployed now.
    """
    return _pass_on(connection, operator, "deploy", number, now, reason, CALLABLE)


def recall(connection: psycopg.Connection[Any], operator: Operator, number: int, now: datetime, reason: str) -> str:
    """Pass a recall on, effective now: the load comes back under the ramps; its facility.

    A deployment that was just passed on can be recalled: what the owner reads in one go it carries out in order.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: there is no such obligation, or it is not deployed.
    """
    return _pass_on(connection, operator, "recall", number, now, reason, frozenset({"deployed"}), CALLABLE)


def base_point(
    connection: psycopg.Connection[Any],
    operator: Operator,
    inventory: FacilityInventory,
    mw: float,
    now: datetime,
    reason: str,
) -> None:
    """Pass a base point on: what the market wants the facility to draw at most, good for 15 minutes.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: the facility is not dispatched that way.
    """
    facility_id, regime = inventory.facility_id, inventory.dispatch_regime
    require(connection, operator, "base_point", facility_id)
    if regime is not DispatchRegime.CLR_BASE_POINT:
        raise ConfigError(
            f"{facility_id} is dispatched by {regime}: base points are for dispatch_regime {DispatchRegime.CLR_BASE_POINT} "
            "(its facility file)"
        )
    with connection.transaction():
        _signal(connection, operator, "base_point", facility_id, {"mw": mw}, now)
        note(connection, operator.name, "base_point.passed_on", facility_id, mw=mw, reason=reason)


def _pass_on(
    connection: psycopg.Connection[Any],
    operator: Operator,
    kind: str,
    number: int,
    now: datetime,
    reason: str,
    allowed: frozenset[str],
    if_called: frozenset[str] = frozenset(),
) -> str:
    require(connection, operator, kind, name_of(number))
    with connection.transaction():
        facility_id, status, starts_at, ends_at = locked_row(connection, number)
        if status not in allowed and not (status in if_called and _is_called(connection, number)):
            raise ConfigError(f"{name_of(number)} is {status}: there is nothing to {kind}")
        if kind == "deploy" and not starts_at <= now < ends_at:
            raise ConfigError(
                f"{name_of(number)} holds from {starts_at:%Y-%m-%d %H:%M}Z to {ends_at:%Y-%m-%d %H:%M}Z, it is "
                f"{now:%Y-%m-%d %H:%M}Z, simulated: it can't be deployed now"
            )
        _signal(connection, operator, kind, facility_id, {"obligation_id": number}, now)
        action = {"deploy": "obligation.deployment", "recall": "obligation.recall"}[kind]
        note(connection, operator.name, f"{action}_passed_on", name_of(number), facility_id=facility_id, reason=reason)
    return facility_id


def _is_called(connection: psycopg.Connection[Any], number: int) -> bool:
    """Whether a deployment was passed on that is neither over nor recalled; its owner may not have written it yet."""
    row = connection.execute(_IS_CALLED, (number,)).fetchone()
    return bool(row and row[0])


def _signal(
    connection: psycopg.Connection[Any],
    operator: Operator,
    kind: str,
    facility_id: str,
    payload: dict[str, Any],
    now: datetime,
) -> None:
    source, event_id = f"operator/{operator.name}", str(uuid.uuid4())
    connection.execute(_SIGNAL, (kind, facility_id, Jsonb(payload), source, event_id, now, now))
