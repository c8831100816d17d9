"""The `hcp` command: arguments, output, exit codes. What a command does lives in the package that it calls.

Exit codes: 0 done, 1 the work failed, 2 wrong usage. Errors are one line that names the thing, the value, the limit
and the next step; `--debug` adds the traceback.
"""

import importlib
import sys
import traceback
from pathlib import Path

import click

from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.settings import Settings

COMMANDS = {
    "lifecycle": ("up", "down"),
    "inspect": ("status", "doctor", "policy"),
    "elsewhere": ("prepare", "run", "exec", "healthy"),
    "sql": ("sql",),
    "facility": ("facility",),
    "discover": ("discover",),
    "alerts": ("alerts",),
    "operator": ("operator",),
    "users": ("user",),
    "orders": ("stop-all", "override", "curtail", "drain"),
    "preview": ("preview",),
    "explain": ("explain",),
    "observed": ("observed",),
    "settle": ("settle",),
    "bill": ("bill",),
    "report": ("report",),
    "locks": ("lock", "unlock", "release", "approve"),
    "maintenance": ("maintenance",),
    "repair": ("repair",),
    "directives": ("directives",),
    "grid": ("grid",),
    "edge": ("edge",),
    "tls": ("tls",),
    "bench": ("bench",),
    "backtest": ("backtest",),
    "backfill": ("backfill",),
    "capacity": ("capacity",),
    "forecast": ("forecast",),
    "model": ("model",),
    "training": ("train",),
    "workload": ("workload",),
}
_MODULE_OF = {name: module for module, names in COMMANDS.items() for name in names}


class Commands(click.Group):
    """Commands by module: one that is typed loads its own alone. All of them take a second of CPU, in an emergency too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, each with its command at hand: who asks for them goes on to their help."""
        return [name for name in sorted(_MODULE_OF) if self.get_command(ctx, name) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; None where there is none of that name."""
        module = _MODULE_OF.get(cmd_name)
        if module is not None and cmd_name not in self.commands:
            importlib.import_module(f"hcp_pipelines.cli.{module}").register(self)
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where the platform's state lives.  [default: .hcp, or HCP_STATE_DIR]",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="hcp")
@click.pass_context
def cli(context: click.Context, state_dir: Path | None, debug: bool) -> None:
    """Decide what each megawatt should do, and switch it: bitcoin mining, AI work, or selling back to the grid."""
    context.obj = {"state_dir": state_dir, "debug": debug}


def main() -> None:
    """Entry point of the `hcp` script."""
    try:
        code = cli.main(prog_name="hcp", standalone_mode=False)
    except HcpError as error:
        sys.exit(_explain(error, error.exit_code))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a person gets one line
        sys.exit(_explain(error, 1))
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: BaseException, code: int) -> int:
    text = str(error) if isinstance(error, HcpError) else f"{type(error).__name__}: {error}"
    click.echo(f"hcp: {text}", err=True)
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    elif not isinstance(error, HcpError):
        click.echo("hcp: this is a defect of ours; `hcp --debug …` shows where.", err=True)
    return code


__all__ = ["Settings", "cli", "main"]

if __name__ == "__main__":
    main()
