"""`hcp model list`: what has been learnt, version by version, and which one serves; who else may serve is in `model_serving`.

The classifier of workloads comes with the package; how it is learnt and scored is in `model_classes`.
"""

from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli import model_classes, model_serving
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.storage import models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

COLUMNS = ("name", "version", "status", "digest", "trained until", "made", "by", "why")
NONE_YET = (
    "No model has been made yet: policies have the plain band. waiting_model_job in the Dagster UI makes one; `hcp train` learns "
    "a forecast."
)


@click.group("model")
def model() -> None:
    """Look at the models that policies, forecasts and the queue ask; say which serve."""


@model.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def list_models(context: click.Context, as_json: bool, own_state_dir: Path | None) -> None:
    """Show versions, newest first, the one that serves, and the evidence on which each was promoted or not."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        versions = models.listed(connection)
    classes = model_classes.listed()
    if as_json:
        print_json({"models": versions, "shipped": [classes]})
        return
    rows = [*map(_row, versions), tuple(classes.values())]
    print_table("Models; instants are the world's", COLUMNS, rows)
    if not versions:
        click.echo(NONE_YET)


def _row(version: dict[str, Any]) -> tuple[str, ...]:
    return (
        version["name"],
        str(version["version"]),
        version["status"],
        version["digest"][:12],
        f"{version['trained_until']:%Y-%m-%d %H:%M}Z",
        f"{version['created_at']:%Y-%m-%d %H:%M}Z",
        version["actor"],
        version["reason"],
    )


def register(group: click.Group) -> None:
    """Add the command."""
    for command in (
        model_classes.learn_classes,
        model_classes.score_classes,
        model_serving.compare,
        model_serving.promote,
        model_serving.rollback,
    ):
        model.add_command(command)
    group.add_command(model)
