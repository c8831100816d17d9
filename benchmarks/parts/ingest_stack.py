"""The ingesting half of the platform as real processes: Postgres, a gateway of telemetry alone, the collector; and a reader."""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common import ROOT, cpu_s
from benchmarks.parts.stack import Stack
from hcp_pipelines.settings import child_environment
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.supervisor.configuration import configure
from hcp_pipelines.supervisor.database import postgres_spec
from hcp_pipelines.supervisor.folders import prepare_folders
from hcp_pipelines.supervisor.processes import daemon_specs, python_process

SOURCE = "benchmarks.parts.telemetry_source"


@dataclass(frozen=True)
class Metrics:
    """A process's metrics at an instant, by name and labels as they are written."""

    values: dict[str, float]

    @property
    def rows(self) -> float:
        """Rows of telemetry in the lake since the collector began."""
        return self.value("hcp_collector_telemetry_rows_total")

    def value(self, name: str, labels: str = "") -> float:
        """One value; 0 where there is none yet."""
        return self.values.get(f"{name}{{{labels}}}", 0.0)

    def count(self, name: str, before: "Metrics", labels: str = "") -> int:
        """How many observations a histogram had since."""
        return round(self.value(f"{name}_count", labels) - before.value(f"{name}_count", labels))

    def mean(self, name: str, before: "Metrics", labels: str = "") -> float | None:
        """The mean of a histogram's observations since; None without any."""
        count = self.count(name, before, labels)
        total = self.value(f"{name}_sum", labels) - before.value(f"{name}_sum", labels)
        return round(total / count, 3) if count else None


@dataclass
class IngestStack(Stack):
    """`start` brings it up, sampling; `halt` ends sampling."""

    reader_cpu_s: float = field(default=0.0)

    async def start(self) -> None:
        """Everything up and well."""
        prepare_folders(self.settings)
        await self._up([postgres_spec(self.settings)])
        bootstrap(self.settings)
        self.report(f"applying {self.settings.devices:,} devices in {self.settings.facilities} facilities")
        self.configuration = configure(self.settings, self._anchor)
        self.report("starting gateway and collector")
        sources = [
            python_process(self.settings, name, SOURCE, "--config", str(self.settings.at("edge", f"{name}.yaml")))
            for name in self.gateways
        ]
        collector = [s for s in daemon_specs(self.settings, self.gateways) if s.name == "collector"]
        await self._up([*sources, *collector])

    def halt(self) -> None:
        """No more samples are taken."""
        self.settings.at("edge", "halt").touch()

    def produced(self) -> dict[str, dict[str, int]]:
        """By facility how many samples were kept, and the number of the last."""
        found: dict[str, dict[str, int]] = self._produced()["facilities"]
        return found

    def unstored(self) -> int | None:
        """How many samples of those kept are not in the lake yet, as the collector says; None before sampling has ended."""
        produced = self._produced()
        if not produced["is_halted"]:
            return None
        stored: dict[str, int] = json.loads(self.settings.at("run", "telemetry.json").read_text())["stored"]
        facilities: dict[str, dict[str, int]] = produced["facilities"]
        return sum(max(one["last_seq"] - stored.get(name, 0), 0) for name, one in facilities.items())

    def _produced(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.settings.at("edge", "produced.json").read_text())
        return found

    async def metrics(self) -> Metrics:
        """The collector's metrics now."""
        url = json.loads(self.settings.at("run", "collector.json").read_text())["urls"]["metrics"]
        async with httpx.AsyncClient() as client:
            text = (await client.get(url, timeout=10)).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return Metrics({_key(sample.name, sample.labels): sample.value for sample in samples})

    async def start_reader(self) -> asyncio.subprocess.Process:
        """An analyst who asks again and again."""
        argv = [sys.executable, "-m", "benchmarks.parts.lake_reader", str(self.settings.at("edge", "enough"))]
        return await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, env=child_environment(self.settings), stdout=asyncio.subprocess.PIPE
        )

    async def stop_reader(self, reader: asyncio.subprocess.Process) -> list[dict[str, float]]:
        """What it was told, and how long it took."""
        self.reader_cpu_s = cpu_s(reader.pid)
        self.settings.at("edge", "enough").touch()
        told, _ = await reader.communicate()
        if reader.returncode:
            raise RuntimeError(f"the reader ended with {reader.returncode}")
        return [json.loads(line) for line in told.decode().splitlines()]


def _key(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"
