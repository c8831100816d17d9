"""`hcp bench NAME`: runs a module of benchmarks/ in a process of its own."""

import subprocess
import sys
from pathlib import Path

import click

from hcp_pipelines.settings import Settings, child_environment

ROOT = Path(__file__).resolve().parents[2]
ALSO_CALLED = {"score": "economics"}  # the design's name for it


def names() -> list[str]:
    """The benchmarks there are, as the command line spells them."""
    modules = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if p.stem not in ("__init__", "common"))
    return [m.replace("_", "-") for m in modules]


@click.command("bench", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="NAME")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(name: str, arguments: tuple[str, ...]) -> None:
    """Run a benchmark: its figures, the machine, the target; --json gives one object on the last line.

    --quick stays under 60 s and says so; `hcp bench all` runs every one. Other options are the benchmark's own.
    """
    known, name = names(), ALSO_CALLED.get(name, name)
    if name != "all" and name not in known:
        raise click.UsageError(f"no benchmark {name!r}; there are {', '.join(known)}, and all")
    for each in known if name == "all" else [name]:
        argv = [sys.executable, "-m", f"benchmarks.{each.replace('-', '_')}", *arguments]
        code = subprocess.run(argv, cwd=ROOT, env=child_environment(Settings.load()), check=False).returncode
        if code:
            sys.exit(code)


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(bench)
