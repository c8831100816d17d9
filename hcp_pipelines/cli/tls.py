"""`hcp tls`: a small certificate authority for gateways beyond a unix socket, and the certificates of this platform."""

from pathlib import Path

import click

from hcp_pipelines.cli.common import Finite, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.gateway_tls import GATEWAY, LOCAL_HOSTS, issue_all, make_all, tls_folder
from hcp_pipelines.wire.certificates import LEAF_DAYS, ROLES, expires_at


@click.group("tls")
def tls() -> None:
    """Certificates between gateways and whoever speaks to them (docs/security.md)."""


@tls.command("init")
@click.option(
    "--host", "hosts", multiple=True, help="Where gateways are reached; as often as needed.  [default: loopback]"
)
@click.option("--days", type=Finite(min=0.001, max=3650), default=LEAF_DAYS, show_default=True)
@state_dir_option
@click.pass_context
def init(context: click.Context, hosts: tuple[str, ...], days: float, own_state_dir: Path | None) -> None:
    """Make a certificate authority, a certificate for gateways, and one for each role of their clients."""
    settings = settings_of(context, own_state_dir)
    folder = tls_folder(settings)
    if (folder / "ca.crt").exists():
        raise ConfigError(f"{folder / 'ca.crt'} is there already: `hcp tls renew` signs new certificates with it")
    make_all(settings, hosts or LOCAL_HOSTS, days)
    _show(settings)


@tls.command("renew")
@click.option("--host", "hosts", multiple=True, help="As for init.")
@click.option("--days", type=Finite(min=0.001, max=3650), default=LEAF_DAYS, show_default=True)
@state_dir_option
@click.pass_context
def renew(context: click.Context, hosts: tuple[str, ...], days: float, own_state_dir: Path | None) -> None:
    """Sign new certificates with the authority that is there; processes take them at their next start."""
    settings = settings_of(context, own_state_dir)
    issue_all(settings, hosts or LOCAL_HOSTS, days)
    _show(settings)


@tls.command("show")
@state_dir_option
@click.pass_context
def show(context: click.Context, own_state_dir: Path | None) -> None:
    """Show until when the certificates are valid."""
    _show(settings_of(context, own_state_dir))


def _show(settings: Settings) -> None:
    folder = tls_folder(settings)
    rows = [(f"{name}.crt", f"{expires_at(folder / f'{name}.crt'):%Y-%m-%d %H:%M}") for name in ("ca", GATEWAY, *ROLES)]
    print_table(str(folder), ("certificate", "valid until (UTC)"), rows)


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(tls)
