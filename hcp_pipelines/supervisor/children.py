"""The processes of a platform together: started in order, watched, restarted, stopped; and the file of their pids.

One process is `child`'s subject, what runs is `processes`'; when, and what else there is to do, is `platform`'s.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.runtime.files import folder_id, put_whole
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor import guardian
from hcp_pipelines.supervisor.child import Child, ProcessSpec, State, cut_log

Report = Callable[[str], None]


class Children:
    """By name, in the order in which they were added."""

    def __init__(
        self, settings: Settings, clock: SystemClock, report: Report, known: Mapping[str, Child] | None = None
    ) -> None:
        self._settings, self._clock, self._report = settings, clock, report
        self._children: dict[str, Child] = dict(known or {})
        self.pid_file = settings.at("run", "pids.json")

    def __contains__(self, name: str) -> bool:
        return name in self._children

    def are_ready(self) -> bool:
        """Whether every process is up and says that it is well."""
        return bool(self._children) and all(c.state is State.READY and not c.reason for c in self._children.values())

    def of(self, names: Iterable[str]) -> list[Child]:
        """Some of them."""
        return [self._children[name] for name in names]

    def urls(self) -> dict[str, str]:
        """Where a person can look."""
        urls = {"dagster": f"http://127.0.0.1:{self._settings.dagster_port}"}
        for child in self._children.values():
            urls |= {f"{child.spec.name}.{kind}": url for kind, url in child.urls().items()}
        return urls

    def rows(self) -> list[dict[str, Any]]:
        """One row a process, as `hcp status --json` prints them."""
        return [
            {
                "name": c.spec.name,
                "pid": c.pid,
                "state": c.state.value,
                "healthy": c.state is State.READY and not c.reason,
                "restarts": c.restarts,
                "reason": c.reason,
                "log": str(c.log_path),
            }
            for c in self._children.values()
        ]

    def add(self, specs: Iterable[ProcessSpec]) -> None:
        """More of them; those that may are started."""
        for spec in specs:
            self._children[spec.name] = Child(spec, self._settings.at("logs", f"{spec.name}.log"), self._clock)
        self.poll()

    def poll(self) -> None:
        """Start those whose turn it is, and see how each is."""
        changed = False
        for child in self._children.values():
            before = (child.state, child.pid)
            if child.state is State.WAITING:
                if self._may_start(child):
                    child.start()
            elif not self._is_held(child):
                child.poll()
            if (child.state, child.pid) != before:
                changed = True
                self._report(f"{child.spec.name}: {child.state.value}{' – ' + child.reason if child.reason else ''}")
        if changed:
            self.write_pids()

    def _may_start(self, child: Child) -> bool:
        needed = [self._children[name] for name in child.spec.after if name in self._children]
        return all(c.state is State.READY for c in needed)

    def _is_held(self, child: Child) -> bool:
        """Whether a dead child would only die again: Postgres is away, and each death makes its backoff longer."""
        postgres = self._children.get("postgres")
        is_away = postgres is not None and postgres.state is not State.READY
        return is_away and child.state is State.BACKOFF and "postgres" in child.spec.after

    async def check(self, client: httpx.AsyncClient) -> None:
        """Ask each how it is."""
        await asyncio.gather(*(child.check(client) for child in self._children.values()), return_exceptions=True)

    def restart(self, names: Iterable[str]) -> None:
        """End and start again those of these that run."""
        for child in self.of(name for name in names if name in self._children):
            if child.pid:
                child.restart()
        self.write_pids()

    def cut_logs(self) -> None:
        """Keep their logs short."""
        for child in self._children.values():
            try:
                cut_log(child.log_path)
            except OSError as error:
                self._report(f"{child.log_path} can't be cut: {error.strerror}")

    def sweep(self) -> None:
        """End what an earlier platform left."""
        left = guardian.end_all(self.pid_file)
        if left:
            self._report(f"ended {left} processes that an earlier platform had left behind")

    def stop_all(self) -> None:
        """Stop them, Postgres last."""
        last = [c for c in self._children.values() if c.spec.name == "postgres"]
        first = [c for c in self._children.values() if c.spec.name != "postgres"]
        for group in (first, last):
            for child in group:
                child.stop()
            for child in group:
                child.reap()
        self.pid_file.unlink(missing_ok=True)

    def write_pids(self) -> None:
        """For whoever has to end them without us."""
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        here = {"folder": folder_id(self.pid_file.parent)}
        write_json(self.pid_file, [one | here for c in self._children.values() if (one := c.identity())])


def write_json(path: Path, value: object) -> None:
    """Put a file in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    put_whole(path, json.dumps(value))
