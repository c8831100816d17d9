"""`hcp explain FACILITY`: why it does what it does: blocks in merit order, what binds, and which price would change it."""

from pathlib import Path

import click

from hcp_pipelines.allocator.explain import Explained, explained
from hcp_pipelines.cli.common import Finite, PageFile, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.cli.situation import situation_of
from hcp_pipelines.optimizer.explain_words import COLUMNS, lines_of, row_of


@click.command("explain")
@click.argument("facility")
@click.option("--price", type=Finite(-10_000, 50_000), help="At another decision price than the present one, $/MWh.")
@click.option(
    "--html",
    "html_file",
    type=PageFile(),
    help="Write a page with the curve.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def explain(
    context: click.Context,
    facility: str,
    price: float | None,
    html_file: Path | None,
    as_json: bool,
    own_state_dir: Path | None,
) -> None:
    """Say why FACILITY does what it does: blocks in merit order with their strikes in $/MWh, what binds, what would change it."""
    _, situation = situation_of(settings_of(context, own_state_dir), facility)
    found = explained(situation, price)
    if html_file is not None:
        from hcp_pipelines.optimizer.explain_page import page  # plotly takes a third of a second

        html_file.write_text(page(found.explanation, found.over_it), encoding="utf-8")
    if as_json:
        print_json(found.as_dict())
        return
    _print(found)


def _print(found: Explained) -> None:
    one = found.explanation
    title = (
        f"{one.facility_id} · policy {found.policy_id} · solved {one.solved_at:%Y-%m-%d %H:%M}Z · "
        f"control mode {found.control_mode}"
    )
    print_table(title, COLUMNS, [row_of(block) for block in one.blocks])
    for line in (*lines_of(one), *(f"before the price: {words}" for words in found.over_it)):
        click.echo(line)


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(explain)
