"""`hcp model compare|promote|rollback`: evidence beside evidence, and who serves by a person's word with a reason."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.acting import acting, as_option, line_of_text
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import NotThereError
from hcp_pipelines.operators.orders import require
from hcp_pipelines.orchestration.training.targets import READ_BY, TARGETS
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

MEASURES = ("pinball", "mae", "rmae_naive", "mase", "smape", "coverage_80", "coverage_90")
COLUMNS = (
    "version",
    "status",
    "model",
    "learnt until",
    "of",
    *(name.replace("_", " ") for name in MEASURES),
    "$ a year",
)
_FIRST = ("challenger", "champion")
COMPARED = 5  # newest versions, where none are named
_REASON = click.option("--reason", required=True, callback=line_of_text, help="Why; kept in the audit log.")


@click.command("compare")
@click.argument("name")
@click.argument("versions", type=click.IntRange(min=1), nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def compare(
    context: click.Context, name: str, versions: tuple[int, ...], as_json: bool, own_state_dir: Path | None
) -> None:  # fmt: skip
    """Show what the trials of NAME's VERSIONS told: errors beside the baselines', coverage, dollars, and the paired test.

    Of each trial's own weeks: figures of two versions are of the same weeks only where they stand under one trial.
    """
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        chosen = versions or tuple(row["version"] for row in models.listed(connection, COMPARED, name))
        if not chosen:
            raise NotThereError(
                f"there is no version of {name!r}: `hcp model list` shows what there is, `hcp train` makes one"
            )
        found = [models.find(connection, name, version) for version in chosen]
    if as_json:
        print_json({"name": name, "versions": [_told(each) for each in found]})
        return
    print_table(f"{name}: trials", COLUMNS, [row for each in found for row in _rows(each)])
    for each in found:
        click.echo(f"{each.version}: {each.reason}")
        if note := each.metadata.get("value_note"):
            click.echo(f"{each.version}: no dollars: {note}")


@click.command("promote")
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@_REASON
@as_option
@state_dir_option
@click.pass_context
def promote(
    context: click.Context, name: str, version: int, reason: str, operator: str | None, own_state_dir: Path | None
) -> None:  # fmt: skip
    """Make VERSION of NAME the champion, whatever its trial told: who asks the forecast has it at the next question.

    Says who asks it.
    """
    with acting(context, own_state_dir, operator) as on:
        require(on.connection, on.operator, "model.promote", f"{name} {version}")
        evidence = models.find(on.connection, name, version).metadata.get("comparison") or {}
        before = models.promote(on.connection, name, version, on.operator.name, reason, evidence)
        click.echo(f"{name} {version} serves" + (f" in place of {before}" if before else ""))
        _follow(on.settings, on.connection, name)


@click.command("rollback")
@click.argument("name")
@_REASON
@as_option
@state_dir_option
@click.pass_context
def rollback(context: click.Context, name: str, reason: str, operator: str | None, own_state_dir: Path | None) -> None:
    """Let the champion before serve NAME again; done again it goes one further back."""
    with acting(context, own_state_dir, operator) as on:
        require(on.connection, on.operator, "model.rollback", name)
        gone, serving = models.roll_back(on.connection, name, on.operator.name, reason)
        click.echo(f"{name} {serving} serves again in place of {gone}")
        _follow(on.settings, on.connection, name)


def _follow(settings: Settings, connection: Any, name: str) -> None:
    """Who asks it, and the record's aliases: what serves is settled already, and waits for nobody."""
    from hcp_pipelines.orchestration.training.record import follow_table  # MLflow takes seconds

    if name in READ_BY:
        click.echo(f"Asked by {READ_BY[name]}.", err=True)
    elif name in TARGETS:
        click.echo(f"Nothing asks {name} yet: what is decided and answered stays as it was.", err=True)
    click.echo(f"MLflow: {follow_table(settings, connection, name)}", err=True)


def _told(version: models.Version) -> dict[str, Any]:
    keys = ("asked", "trial", "comparison", "scores", "value", "value_note", "snapshot_id", "code")
    return {
        "version": version.version, "status": version.status, "digest": version.digest, "trained_until": version.trained_until,
        **{key: version.metadata.get(key) for key in keys},
    }  # fmt: skip


def _rows(version: models.Version) -> Iterator[tuple[object, ...]]:
    """A row for who was in a version's trial."""
    dollars = {each["name"]: each["usd_per_unit_year"] for each in version.metadata.get("value", [])}
    head = (
        version.version,
        version.status,
        version.metadata.get("name", ""),
        f"{version.trained_until:%Y-%m-%d %H:%M}Z",
    )
    scores = version.metadata.get("scores", {})
    for who in sorted(scores, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)):
        if isinstance(rows := scores[who], list):
            overall: Mapping[str, Any] = next(
                (row for row in rows if (row["entity"], row["horizon"]) == ("all", "all")), {}
            )
            usd = f"{dollars[who]:,.0f}" if who in dollars else ""
            yield (*head, who, *(_shown(overall.get(name)) for name in MEASURES), usd)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else ""
