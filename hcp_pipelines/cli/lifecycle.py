"""`hcp up` and `hcp down`."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from hcp_pipelines.cli.common import Finite, instant, plain, settings_of, state_dir_option
from hcp_pipelines.cli.pacing import Paced
from hcp_pipelines.cli.screen import live_screen
from hcp_pipelines.domain.errors import HcpError, NotRunningError
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.supervisor.folders import prepare_folders
from hcp_pipelines.supervisor.lock import owner_pid
from hcp_pipelines.supervisor.platform import Platform
from hcp_pipelines.supervisor.scenarios import refuse_unknown_scenario
from hcp_pipelines.supervisor.status import read_loop

DETACH_WITHIN_S = 240.0
DOWN_WITHIN_S = 90.0


@click.command("up")
@click.option("--detach", is_flag=True, help="Return once everything is up; `hcp down` stops it.")
@click.option("--scenario", help="Scenario of the simulated world.  [default: calm]")
@click.option(
    "--speed",
    "clock_speed",
    type=Finite(min=0, min_open=True),
    help="Simulated seconds per real second.  [default: 60]",
)
@click.option("--from", "start_at", callback=instant, metavar="T", help="Instant at which a new world begins.")
@click.option("--devices", type=int, help="Devices of the demo fleet.  [default: 2000]")
@click.option("--facilities", type=int, help="Facilities of the demo fleet.  [default: 3]")
@state_dir_option
@click.pass_context
def up(
    context: click.Context,
    /,
    detach: bool,
    start_at: datetime | None,
    own_state_dir: Path | None,
    **overrides: object,
) -> None:
    """Start the whole platform: Postgres, world, gateways, feed, allocators, collector, Dagster. Ctrl-C stops it."""
    # A process started in the background by a shell inherits SIGINT ignored, and Dagster would copy that to SIGTERM.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = settings_of(context, own_state_dir, **overrides)
    refuse_unknown_scenario(settings)
    if detach:
        _detach(settings, start_at)
        return
    _run_in_foreground(settings, start_at)


def _run_in_foreground(settings: Settings, start_at: datetime | None) -> None:
    os.umask(0o077)  # for every process of the platform: what it writes is its own account's business
    console = Console()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2) as live:
            platform = Platform(settings, start_at, report=lambda text: live.console.print(plain(text, "dim")))
            loop = Paced(lambda: read_loop(settings), platform.clock)
            asyncio.run(platform.run(lambda p: live.update(live_screen(p.children.rows(), p.children.urls(), loop()))))
    else:
        platform = Platform(settings, start_at, report=_say)
        asyncio.run(platform.run(_announcer(settings)))
    _say("stopped; nothing is left running. The simulated hardware holds its last mix until the next `hcp up`.")


def _say(text: str) -> None:
    click.echo(f"hcp: {text}")


def _announcer(settings: Settings) -> Callable[[Platform], None]:
    """Without a terminal: say once when all is up, at the first policy and at the first switch."""
    said: set[str] = set()

    def once(key: str, text: str) -> None:
        if key not in said:
            said.add(key)
            _say(text)

    def announce(platform: Platform) -> None:
        if platform.children.are_ready():
            once(
                "up",
                "everything is up: "
                + ", ".join(f"{k} {v}" for k, v in platform.children.urls().items() if k == "dagster"),
            )
        if {"policy", "settled"} <= said:
            return
        loop: dict[str, Any] = read_loop(settings)
        if loop.get("policies", {}).get("last_run_id"):
            once("policy", f"first policy, by Dagster run {loop['policies']['last_run_id']}")
        switches = loop.get("switches", {})
        if switches.get("acked"):
            once("acked", f"first switches: {switches['acked']} devices acknowledged")
        if switches.get("settled"):
            once("settled", f"first switches settled: {switches['settled']} devices, judged by their own power")

    return announce


def _detach(settings: Settings, start_at: datetime | None) -> None:
    argv = [sys.executable, "-m", "hcp_pipelines.cli.main", "up"]
    argv += ["--from", start_at.isoformat()] if start_at else []
    prepare_folders(settings)
    log_path = settings.at("logs", "supervisor.log")
    log_path.touch(mode=0o600)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            argv,
            env=child_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + DETACH_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = log_path.read_text(errors="replace").strip().splitlines()[-1:]
            raise HcpError(f"did not start: {' '.join(tail).removeprefix('hcp: ')} (log: {log_path})")
        status = _read_json(settings.at("run", "status.json"))
        if status.get("ready") and status.get("supervisor_pid") == process.pid:
            _say(f"up, pid {process.pid}; Dagster UI: {status['urls']['dagster']}; `hcp status`, `hcp down`")
            return
        time.sleep(0.3)
    waiting = [
        p["name"] for p in _read_json(settings.at("run", "status.json")).get("processes", []) if not p["healthy"]
    ]
    missing = ", ".join(waiting) or "no process has told how it is"
    raise HcpError(
        f"not everything is up after {DETACH_WITHIN_S:.0f} s: {missing}; `hcp status` and {log_path} tell more"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


@click.command("down")
@state_dir_option
@click.pass_context
def down(context: click.Context, own_state_dir: Path | None) -> None:
    """Stop the platform. The hardware holds its last mix: nothing is switched by stopping."""
    settings = settings_of(context, own_state_dir)
    lock = settings.at("run", "supervisor.lock")
    pid = owner_pid(lock)
    if pid is None:
        raise NotRunningError(f"No platform runs on {settings.state_dir}.")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_WITHIN_S
    while owner_pid(lock) is not None:
        if time.monotonic() > deadline:
            raise HcpError(
                f"the supervisor (pid {pid}) still runs after {DOWN_WITHIN_S:.0f} s; see {settings.at('logs')}"
            )
        time.sleep(0.1)
    _say("stopped; the hardware holds its last mix")


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(up)
    group.add_command(down)
