"""`hcp prepare`, `run`, `exec`, `healthy`: the platform's processes one at a time, without `hcp up` (docs/scaling.md)."""

from pathlib import Path

import click

from hcp_pipelines.cli.common import settings_of, state_dir_option
from hcp_pipelines.domain.errors import ConfigError, HcpError


@click.command("prepare")
@click.option(
    "--login-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Holds an HCP_DATABASE_URL with the login to set up with, which nobody else then needs.",
)
@state_dir_option
@click.pass_context
def prepare(context: click.Context, login_file: Path | None, own_state_dir: Path | None) -> None:
    """Make roles, databases, schema and the lake on the server of HCP_DATABASE_URL; again after each upgrade."""
    from hcp_pipelines.storage.bootstrap import bootstrap

    settings = settings_of(context, own_state_dir, database_url=login_file.read_text().strip() if login_file else None)
    if settings.database_url is None:
        raise ConfigError("HCP_DATABASE_URL is not set: the embedded PostgreSQL is set up by `hcp up`")
    bootstrap(settings)
    click.echo("databases, roles and the lake are ready")


@click.command("run")
@click.argument("process")
@click.option(
    "--runs", type=click.IntRange(1, 64), default=1, show_default=True, help="Of a Celery worker: runs at once."
)
@state_dir_option
@click.pass_context
def run(context: click.Context, process: str, runs: int, own_state_dir: Path | None) -> None:
    """Be one PROCESS of the platform, in the foreground, until SIGTERM. Its name is that of `hcp status`."""
    from hcp_pipelines.supervisor.elsewhere import execute

    execute(settings_of(context, own_state_dir), process, runs)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def execute(context: click.Context, command: tuple[str, ...]) -> None:
    """Be COMMAND, with the environment of Dagster's processes: what a Kubernetes job of a run is."""
    from hcp_pipelines.supervisor.elsewhere import become, dagster_command

    become(dagster_command(settings_of(context), command))


@click.command("healthy")
@click.argument("process")
@state_dir_option
@click.pass_context
def healthy(context: click.Context, process: str, own_state_dir: Path | None) -> None:
    """Whether PROCESS of this machine is well: exit code 0, or 1 and the reason."""
    from hcp_pipelines.supervisor.elsewhere import problem

    reason = problem(settings_of(context, own_state_dir), process)
    if reason:
        raise HcpError(reason)


def register(group: click.Group) -> None:
    """Add the commands."""
    for command in (prepare, run, execute, healthy):
        group.add_command(command)
