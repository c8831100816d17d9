"""Why each facility's newest policy asks for what it asks for, as a page a facility with its merit-order curve."""

from typing import Any

import dagster as dg

from hcp_pipelines.optimizer.explain_page import page
from hcp_pipelines.optimizer.explain_words import COLUMNS, lines_of, row_of
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.explaining import Explanation, at_anchor
from hcp_pipelines.policy.schema import Policy

GROUP = "explanations"
NEWEST = """
    select distinct on (facility_id) facility_id, id, body from policies where status = 'live'
    order by facility_id, basis_tick_id desc, id desc"""


@dg.asset(group_name=GROUP, owners=["team:decisions"], kinds={"python", "plotly"}, deps=["core_hcp__policies"])
def core_hcp__explanations(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """The newest live policy of each facility as it was solved: blocks in merit order, what binds, what would change it."""
    folder = platform.settings().at("reports", "explain")
    folder.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {}
    with platform.connection() as connection:
        rows = connection.execute(NEWEST).fetchall()
    for facility_id, policy_id, body in rows:
        found = at_anchor(compile_policy(Policy.model_validate(body)))
        path = folder / f"{facility_id}.html"
        path.write_text(page(found, [f"policy {policy_id}, as it was solved at {found.solved_at:%Y-%m-%d %H:%M}Z"]))
        metadata |= {
            facility_id: dg.MetadataValue.md(_words(found)),
            f"{facility_id}_page": dg.MetadataValue.path(path),
        }
    context.log.info(f"{len(rows)} facilities explained")
    return dg.MaterializeResult(metadata={"facilities": len(rows)} | metadata)


def _words(found: Explanation) -> str:
    table = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    table += ["| " + " | ".join(row_of(block)) + " |" for block in found.blocks]
    return "\n".join([*table, "", *(f"- {line}" for line in lines_of(found))])
