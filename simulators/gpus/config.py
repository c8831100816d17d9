"""The section `gpu_nodes` of world.yaml: ports, and which exporter the nodes run. Imports nothing of the world."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

GPUS_PER_NODE = 8


class GpuNodesConfig(BaseModel):
    """Both ports of every GPU node.

    Attributes:
        collect_s: simulated seconds between two collections of the exporter, which repeats its values in between.
            The real default is 30; 1 is for platforms that want a sample a second.
        hostname_label: `Hostname` as in every release up to 4.5.3-4.8.2, or `hostname` as in the commits after it.
        exporter: `legacy` prints 9223372036854775794 where a value is missing, and knows neither pci_bus_id nor err_code.
        unreadable: models and checkpoints that no engine finds or can read: what is to load one fails at its end.
        token_file: holds the bearer token that writes to the agent need; without one all writes are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = False
    exporter_port: int = Field(default=9400, ge=0, le=65535)
    agent_port: int = Field(default=9401, ge=0, le=65535)
    collect_s: float = Field(default=30.0, ge=0.1, le=3600)
    hostname_label: Literal["Hostname", "hostname"] = "Hostname"
    exporter: Literal["current", "legacy"] = "current"
    unreadable: tuple[str, ...] = ()
    token_file: Path | None = None
