"""What `world.yaml` says of a site's feeders, relay, cooling and topology (docs/world.md, docs/modbus.md).

Schema only. It is a part of `simulators.settings`, which reads the file and names what is wrong in it.
"""

from collections import Counter
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_BREAKERS = 90  # Modbus units 10 … 99


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeederConfig(_Strict):
    """One feeder with its breaker. Power is all-in: the IT power of its devices and its share of the cooling."""

    feeder: str = Field(min_length=1)
    limit_w: float = Field(gt=0, le=1e10)
    is_interruptible: bool = False  # opened by the under-frequency relay


class NodeConfig(_Strict):
    """One level of the site's tree above or below its feeders; it covers its own slots, its feeders and its children.

    A node with a limit has a breaker of its own. A cooling loop may cross the electrical tree.
    """

    node: str = Field(min_length=1)
    kind: Literal["building", "transformer", "pdu", "container", "rack", "cooling_loop"]
    parent: str | None = None  # another node; None: the site
    limit_w: float | None = Field(default=None, gt=0, le=1e10)
    feeders: list[str] = Field(default_factory=list)
    first_slot: int | None = Field(default=None, ge=0)
    devices: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _whole_run(self) -> Self:
        if (self.first_slot is None) != (self.devices is None):
            message = f"node {self.node}: give both first_slot and devices, or neither"
            raise ValueError(message)
        return self


class RelayConfig(_Strict):
    """The under-frequency relay before the interruptible feeders.

    59.7 Hz is typical for load that sells responsive reserve in ERCOT (nfmconsulting.com/knowledge/ercot-rrs-guide).
    The delay has no source that can be quoted: a setting.
    """

    trip_hz: float = Field(default=59.7, ge=55.0, lt=60.0)
    delay_s: float = Field(default=0.25, ge=0.0, le=60.0)


class CoolingConfig(_Strict):
    """The cooling plant. Every default is a setting, but for the heating rate without cooling.

    2 °C a minute is what a hall was seen to warm by when all its chillers were down (itprotoday.com, "How much time,
    once the cooling fails?", 2008).
    """

    slope_per_celsius: float = Field(default=0.002, ge=0.0, le=1.0)  # of PUE, above `above_celsius` outdoors
    above_celsius: float = Field(default=20.0, ge=-50, le=60)
    fixed_fraction: float = Field(default=0.2, ge=0.0, le=1.0)  # of the cooling's power at full load: there at any load
    setpoint_celsius: float = Field(default=25.0, ge=5, le=60)
    approach_celsius: float = Field(default=6.0, ge=0, le=30)  # the supply is never closer to the outdoor temperature
    pumps: int = Field(default=2, ge=1, le=16)
    pump_capacity_fraction: float = Field(default=0.6, gt=0, le=1.0)  # of full load, each
    heating_celsius_per_minute: float = Field(default=2.0, gt=0, le=60)
    recovery_s: float = Field(default=600.0, ge=10, le=86_400)
    alarm_celsius: float = Field(default=45.0, ge=20, le=100)
    trip_celsius: float = Field(default=52.0, ge=20, le=100)
    reset_celsius: float | None = Field(default=None, ge=-50, le=60)  # below it the interlock resets itself


class PlantConfig(_Strict):
    """The site's power and cooling beyond its feeders."""

    relay: RelayConfig = Field(default_factory=RelayConfig)
    breaker_time_multiplier: float = Field(default=1.0, gt=0, le=15)
    cooling: CoolingConfig | None = None  # None: PUE and ambient stay as without a plant
    topology: list[NodeConfig] = Field(default_factory=list)
    modbus_word_order: Literal["big", "little"] = "big"  # of values longer than a register; sites get it wrong


def check_plant(
    site: str, slots: int, feeders: list[FeederConfig], group_feeders: list[str | None], plant: PlantConfig
) -> None:
    """Whether names, parents and slots fit together.

    Raises:
        ValueError: they don't; the message names the site and the entry.
    """
    known = {feeder.feeder for feeder in feeders}
    _no_doubles(site, [*(feeder.feeder for feeder in feeders), *(node.node for node in plant.topology)])
    wanted = {name for name in group_feeders if name} | {name for node in plant.topology for name in node.feeders}
    for feeder in sorted(wanted):
        if feeder not in known:
            message = f"site {site}: feeder {feeder} is not listed under feeders ({', '.join(sorted(known)) or 'none'})"
            raise ValueError(message)
    _check_tree(site, slots, plant.topology)
    breakers = len(feeders) + sum(node.limit_w is not None for node in plant.topology)
    if breakers > MAX_BREAKERS:
        message = f"site {site}: {breakers} feeders and limited nodes, there are Modbus units for {MAX_BREAKERS}"
        raise ValueError(message)


def _no_doubles(site: str, names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        message = f"site {site}: {', '.join(twice)} named twice among feeders and topology; name each once"
        raise ValueError(message)


def _check_tree(site: str, slots: int, topology: list[NodeConfig]) -> None:
    parents = {node.node: node.parent for node in topology}
    for node in topology:
        if node.parent is not None and node.parent not in parents:
            message = f"site {site}: node {node.node} hangs under {node.parent}, which is not in the topology"
            raise ValueError(message)
        if node.first_slot is not None and node.devices is not None and node.first_slot + node.devices > slots:
            message = (
                f"site {site}: node {node.node} ends at slot {node.first_slot + node.devices}, the site has {slots}"
            )
            raise ValueError(message)
        seen: set[str] = set()
        name: str | None = node.node
        while name is not None:
            if name in seen:
                message = f"site {site}: node {node.node} hangs under itself"
                raise ValueError(message)
            seen.add(name)
            name = parents.get(name)
