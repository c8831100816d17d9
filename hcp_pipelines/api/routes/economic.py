"""What each use earns, what was decided and why (EC-21, EC-24, EC-25): scores, decisions, policies, explanations."""

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
from fastapi import APIRouter, Query, Request

from hcp_pipelines.api.instants import Instant, window
from hcp_pipelines.api.paging import After, Limit, key_of, page
from hcp_pipelines.api.principals import Staff
from hcp_pipelines.api.problems import ProblemError, not_found
from hcp_pipelines.api.routes.price_shapes import (
    Calculate,
    Decision,
    Decisions,
    Explained,
    PolicyHead,
    PolicyHeads,
    Score,
    Scores,
    WholePolicy,
)
from hcp_pipelines.api.routes.resources import FacilityId, Name
from hcp_pipelines.api.state import Api, api_of

if TYPE_CHECKING:
    from hcp_pipelines.allocator.site import Site
    from hcp_pipelines.settings import Settings
    from hcp_pipelines.wire import edge_v1_pb2 as pb

router = APIRouter(prefix="/api/v1/economic", tags=["economic"])
_SCORES = """
    select "timestamp", resource_id, workload_type, score::float8, expected_revenue, estimated_cost, net_profit, usd_per_mwh,
           confidence::float8, recommendation
    from profitability_scores
    where resource_id = %(id)s and tick_id = (
        select tick_id from profitability_scores where resource_id = %(id)s order by "timestamp" desc, id desc limit 1)
    order by workload_type"""
_GROUP_OF = "select group_id from resources where id = %s"
_DECISIONS = """
    select id, "timestamp", facility_id, resource_id, resource_type, recommended_workload, actual_workload, devices,
           expected_profit, actual_profit::float8, tick_id, policy_id
    from allocation_history
    where facility_id = %(facility)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
      and ("timestamp", id) < (%(before)s, %(id)s)
    order by "timestamp" desc, id desc limit %(limit)s"""
_POLICIES = """
    select p.id, p.facility_id, p.basis_tick_id, p.solved_at, p.refresh_due_at, p.expires_at, p.inventory_generation, p.digest,
           p.run_id, a.is_admitted, coalesce(a.reason, ''), case when %(only)s::text is not null then p.body end
    from facilities f
    cross join lateral (select * from policies where facility_id = f.id and status = 'live' order by id desc limit 1) p
    left join lateral (select is_admitted, reason from policy_admissions where policy_id = p.id order by id desc limit 1) a
        on true
    where %(only)s::text is null or f.id = %(only)s order by f.id"""


@router.get("/profitability/{facility_id}/{name}")
async def profitability(facility_id: FacilityId, name: Name, _: Staff, request: Request) -> Scores:
    """The newest scores of a group; of a device, those of its group."""
    api = api_of(request)
    rows = await api.fetch(_SCORES, {"id": f"{facility_id}/{name}"})
    if not rows and (of := await api.fetch(_GROUP_OF, (f"{facility_id}/{name}",))):
        rows = await api.fetch(_SCORES, {"id": f"{facility_id}/{of[0][0]}"})
    if not rows:
        raise not_found(
            f"score of {facility_id}/{name}", "GET /api/v1/resources lists groups; a tick's run scores them"
        )
    return Scores(
        timestamp=rows[0][0], items=[Score(**dict(zip(Score.model_fields, row[1:], strict=True))) for row in rows]
    )


@router.post("/profitability/calculate")
async def calculate(body: Calculate, _: Staff, request: Request) -> Score:
    """The score of a group in one kind of work, on the newest values. Nothing is kept."""
    api = api_of(request)
    return await api.blocking(lambda connection: _calculated(connection, body, api.clock.now()))


@router.get("/decisions")
async def decisions(
    _: Staff,
    request: Request,
    facility_id: Annotated[str, Query(max_length=41, examples=["hou-1"])],
    start: Instant = None,
    end: Instant = None,
    limit: Limit = 50,
    after: After = None,
) -> Decisions:
    """Recommended against actual work, expected against actual profit, newest first; seven days unless said."""
    api = api_of(request)
    since, until = window(api.clock.now(), start, end, timedelta(days=7))
    before, number = _place(after, until)
    names = {"facility": facility_id, "start": since, "end": until, "before": before, "id": number}
    rows = await api.fetch(_DECISIONS, names | {"limit": limit + 1})
    shown, more = page(rows, limit, lambda row: [row[1].isoformat(), row[0]])
    return Decisions(items=[Decision(**dict(zip(Decision.model_fields, r, strict=True))) for r in shown], next=more)


@router.get("/policies")
async def policies(_: Staff, request: Request) -> PolicyHeads:
    """The newest policy of each facility, and whether its owner took it up."""
    rows = await api_of(request).fetch(_POLICIES, {"only": None})
    return PolicyHeads(items=[PolicyHead(**dict(zip(PolicyHead.model_fields, r[:-1], strict=True))) for r in rows])


@router.get("/policies/{facility_id}")
async def policy(facility_id: FacilityId, _: Staff, request: Request) -> WholePolicy:
    """A facility's newest policy, whole."""
    rows = await api_of(request).fetch(_POLICIES, {"only": facility_id})
    if not rows:
        raise not_found(f"policy of {facility_id}", "GET /api/v1/economic/policies lists those there are")
    return WholePolicy(**dict(zip(WholePolicy.model_fields, rows[0], strict=True)))


@router.get("/explain/{facility_id}")
async def explain(
    facility_id: FacilityId,
    _: Staff,
    request: Request,
    price: Annotated[float | None, Query(ge=-10_000, le=50_000, allow_inf_nan=False, examples=[120.0])] = None,
) -> Explained:
    """Why a facility does what it does: blocks in merit order, what binds, what would change it; `price`: at another one."""
    api = api_of(request)
    if not await api.fetch("select 1 from facilities where id = %s", (facility_id,)):
        raise not_found(f"facility {facility_id}", "GET /api/v1/facilities lists those there are")
    return Explained(**await _explained(api, facility_id, price))


def _place(after: str | None, until: datetime) -> tuple[datetime, int]:
    if after is None:
        return until, 2**63 - 1
    at, number = key_of(after, (str, int))
    try:
        return datetime.fromisoformat(at), number
    except ValueError:
        raise ProblemError(400, "query.after: take it from `next` of the page before, as it is") from None


def _calculated(connection: psycopg.Connection[Any], body: Calculate, now: datetime) -> Score:
    from hcp_pipelines.domain.modes import Mode
    from hcp_pipelines.fleet.solve_sites import load_sites
    from hcp_pipelines.optimizer.inputs import InputsNotReadyError
    from hcp_pipelines.optimizer.load import load_inputs
    from hcp_pipelines.optimizer.scores import calculate_profitability  # polars: only where somebody asks

    facility_id, _, group_id = body.resource_id.partition("/")
    if connection.execute("select 1 from facilities where id = %s", (facility_id,)).fetchone() is None:
        raise not_found(f"facility {facility_id}", "GET /api/v1/facilities lists those there are")
    try:
        inputs = load_inputs(connection, load_sites(connection, [facility_id]), now)
    except InputsNotReadyError as error:
        raise ProblemError(503, str(error), {"Retry-After": "5"}) from None
    found = calculate_profitability(inputs[0], group_id, Mode(body.workload_type))
    return Score.model_validate(found, from_attributes=True)


async def _explained(api: Api, facility_id: str, price: float | None) -> dict[str, Any]:
    site, state = await api.blocking(lambda connection: _site(api.settings, connection, facility_id))
    from hcp_pipelines.allocator.explain import explained
    from hcp_pipelines.allocator.preview_load import load_situation

    async with api.connection() as connection:
        situation = await load_situation(connection, site, state, api.clock.now())
    return (await asyncio.to_thread(explained, situation, price)).as_dict()


def _site(
    settings: "Settings", connection: psycopg.Connection[Any], facility_id: str
) -> "tuple[Site, pb.FacilityState]":
    """What the facility's owner plans with, and what its gateway says. Imports in a thread: they take half a second once."""
    from hcp_pipelines.allocator import explain, preview_load  # noqa: F401 - for whoever goes on from here
    from hcp_pipelines.allocator.site import site_of
    from hcp_pipelines.domain.errors import HcpError
    from hcp_pipelines.fleet.inventory import load_inventories, load_inventory
    from hcp_pipelines.operators.progress import read_gateway

    inventory = load_inventory(connection, facility_id)
    portfolio_mw = sum(i.capacity_mw for i in load_inventories(connection))
    try:
        state = read_gateway(settings, connection, facility_id)
    except HcpError as error:
        raise ProblemError(503, str(error), {"Retry-After": "5"}) from None
    return site_of(inventory, portfolio_mw, ""), state
