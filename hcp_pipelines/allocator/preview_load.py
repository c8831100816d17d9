"""What a preview starts from, read from Postgres and from what the gateway said. Nothing is written."""

from datetime import datetime, timedelta
from typing import Any

import psycopg

from hcp_pipelines.allocator.decide import InForce
from hcp_pipelines.allocator.desired_table import read_desired
from hcp_pipelines.allocator.market import MarketBook, TickRow
from hcp_pipelines.allocator.obligation_table import read_obligations
from hcp_pipelines.allocator.predecessors import read_bookings, read_memory, read_switches
from hcp_pipelines.allocator.preview import Situation
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.standing import read_standing
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.storage.prices import recent_ticks
from hcp_pipelines.wire import edge_v1_pb2 as pb

RECENT_PER_SERIES = 9
Connection = psycopg.AsyncConnection[Any]
_IN_FORCE = """
    select p.id, p.body from policies p
    where p.facility_id = %s and exists (select 1 from policy_admissions a where a.policy_id = p.id and a.is_admitted)
    order by p.id desc limit 1"""
_POLICY = "select facility_id, body from policies where id = %s"


async def load_situation(connection: Connection, site: Site, state: pb.FacilityState, now: datetime) -> Situation:
    """The situation of a facility whose gateway has just said what it sees."""
    book, one = MarketBook(), [site.facility_id]
    ticks = sorted(await recent_ticks(connection, RECENT_PER_SERIES), key=lambda t: t.id or 0)
    book.take(
        TickRow(t.id or 0, t.stream.value, t.series, t.source_at, t.value, t.quality.value, t.revision) for t in ticks
    )
    row = await (await connection.execute(_IN_FORCE, (site.facility_id,))).fetchone()
    since = datetime.fromtimestamp(now.timestamp() - site.ramp_window_s, tz=now.tzinfo)
    return Situation(
        site=site,
        commanded=state.states,
        observed=state.observed,
        book=book,
        in_force=None if row is None else _in_force(row[0], row[1]),
        standing=(await read_standing(connection, one, now))[site.facility_id],
        obligations=(await read_obligations(connection, one))[site.facility_id],
        bookings=await read_bookings(connection, site.facility_id, since, timedelta()),
        switches=await read_switches(connection, site.facility_id, site.generation, now, timedelta()),
        memory=await read_memory(connection, site.facility_id),
        now=now,
        desired=(await read_desired(connection, one, 0.0))[site.facility_id],
    )


async def load_policy(connection: Connection, policy_id: int) -> tuple[str, InForce]:
    """A published policy, in force or not, and its facility.

    Raises:
        ConfigError: there is none of that id.
    """
    row = await (await connection.execute(_POLICY, (policy_id,))).fetchone()
    if row is None:
        raise ConfigError(f"no policy {policy_id}: `hcp policy show` shows the newest of each facility")
    return row[0], _in_force(policy_id, row[1])


def _in_force(policy_id: int, body: dict[str, Any]) -> InForce:
    policy = Policy.model_validate(body)
    return InForce(policy_id, policy, compile_policy(policy))
