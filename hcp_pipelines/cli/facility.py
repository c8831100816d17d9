"""`hcp facility apply|diff|export|versions|list`: the versioned facility files."""

from pathlib import Path

import click
import yaml

from hcp_pipelines.cli.common import print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.admission import remarks
from hcp_pipelines.fleet.apply import apply as apply_file
from hcp_pipelines.fleet.apply import diff as diff_file
from hcp_pipelines.fleet.apply import export as export_facility
from hcp_pipelines.fleet.facility_file import FacilityFile, dump_facility, load_facility
from hcp_pipelines.fleet.findings import newest_findings
from hcp_pipelines.fleet.simulated_sites import first_address, refuse_foreign_addresses
from hcp_pipelines.fleet.versions import document_of, versions_of
from hcp_pipelines.settings import environment_value
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

_LIST = """
    select f.id, f.settlement_point, f.capacity_mw, f.control_mode, f.dispatch_regime, f.document_version, g.generation, g.devices
    from facilities f join inventory_generations g on g.facility_id = f.id and g.is_current order by f.id"""


@click.group("facility")
def facility() -> None:
    """Facility files: one versioned YAML per site (docs/facility-file.md)."""


@facility.command("apply")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--actor", default=None, help="Who applies it, for the audit log.  [default: the login name]")
@state_dir_option
@click.pass_context
def apply(context: click.Context, files: tuple[Path, ...], actor: str | None, own_state_dir: Path | None) -> None:
    """Validate FILES and apply them; a running platform takes them over within seconds."""
    documents = [_load(path) for path in files]
    who = actor or environment_value("USER") or "operator"
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.ADMIN) as connection, connection.transaction():
        if settings.world != "real":
            refuse_foreign_addresses(connection, documents)
        results = [apply_file(connection, document, who) for document in documents]
    for result in results:
        what = f"applied, inventory generation {result.generation}" if result.changed else "unchanged"
        click.echo(f"{result.facility_id}: {what}")
    _remark(*documents)


@facility.command("diff")
@click.argument("file", type=click.Path(path_type=Path))
@state_dir_option
@click.pass_context
def diff(context: click.Context, file: Path, own_state_dir: Path | None) -> None:
    """Show what applying FILE would change."""
    document = _load(file)
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        if settings.world != "real":
            refuse_foreign_addresses(connection, [document])
        lines = diff_file(connection, document)
    click.echo("\n".join(lines) if lines else f"{document.facility_id}: no difference")
    _remark(document)


@facility.command("export")
@click.argument("facility_id")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--version", type=click.IntRange(min=1), help="As it was applied then.  [default: the one in force]")
@state_dir_option
@click.pass_context
def export(
    context: click.Context, facility_id: str, file: Path | None, version: int | None, own_state_dir: Path | None
) -> None:
    """Write the facility as a file (to standard output if none is named).

    An earlier version that is applied again is in force again, as a version of its own.
    """
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = (
            export_facility(connection, facility_id)
            if version is None
            else document_of(connection, facility_id, version)
        )
    text = dump_facility(found)
    if file is None:
        click.echo(text, nl=False)
    else:
        file.write_text(text)
        click.echo(f"{facility_id}: written to {file}")


@facility.command("versions")
@click.argument("facility_id")
@state_dir_option
@click.pass_context
def versions(context: click.Context, facility_id: str, own_state_dir: Path | None) -> None:
    """List the versions of the facility's file, newest first: who applied each, and when."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = versions_of(connection, facility_id)
    rows = [(str(v.version), f"{v.applied_at:%Y-%m-%d %H:%M:%S}", v.applied_by, v.digest[:12]) for v in found]
    print_table("", ("version", "applied (UTC)", "by", "digest"), rows)


@facility.command("list")
@state_dir_option
@click.pass_context
def list_(context: click.Context, own_state_dir: Path | None) -> None:
    """List the facilities; a simulated one with its site number k, and where its devices' addresses begin."""
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        rows = connection.execute(_LIST).fetchall()
    columns = ["facility", "settlement point", "MW", "control mode", "regime", "version", "generation", "devices"]
    if settings.world != "real":
        columns.append("simulated from")
        rows = [(*row, f"k = {k}: {first_address(k)}") for k, row in enumerate(rows)]
    print_table("", columns, rows)


@facility.command("discovery")
@state_dir_option
@click.pass_context
def discovery(context: click.Context, own_state_dir: Path | None) -> None:
    """Show what the scans of the facilities' gateways last changed, would change, or why they are held."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = newest_findings(connection)
    rows = [(f.facility_id, f.kind, f.said, f.unplaced or "", f.actor, f"{f.at:%Y-%m-%d %H:%M:%S}") for f in found]
    print_table("", ("facility", "scan", "what", "without a slot", "by", "at (UTC)"), rows)


def _load(path: Path) -> FacilityFile:
    try:
        return load_facility(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}. docs/facility-file.md describes the file.") from error


def _remark(*documents: FacilityFile) -> None:
    for text in (text for document in documents for text in remarks(document)):
        click.echo(f"look at this: {text}", err=True)


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(facility)
