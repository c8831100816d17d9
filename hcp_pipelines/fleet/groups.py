"""A group of a facility file: its devices, its ladder with the file's own figures, and what the inventory keeps of both.

What a model name stands for is in `models.py`, how devices are reached in `reach.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from hcp_pipelines.devices.settling import family
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.fleet.models import MODELS, ResolvedGroup, StateSpec, gpu_timed, states_of
from hcp_pipelines.fleet.parts import ID_PATTERN, Part, StateLabel
from hcp_pipelines.fleet.reach import DriverKind

AI_STATES = frozenset({DeviceState.INFERENCE_REALTIME, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING})


class StateOverride(Part):
    """A state's measured figures in place of the model table's; what is left out stays as shipped."""

    state: StateLabel
    power_kw: float | None = Field(default=None, ge=0)
    settle_s: float | None = Field(default=None, gt=0)
    hash_rate_th_per_s: float | None = Field(default=None, ge=0)


class GroupTopology(Part):
    """How a group's GPUs lie, in the order of its slots: a node's, those of it that are linked directly, a rack's nodes."""

    node: int = Field(ge=1, le=1024)
    island: int | None = Field(default=None, ge=1, le=1024)
    rack_nodes: int | None = Field(default=None, ge=1, le=1024)

    @model_validator(mode="after")
    def _islands_fit(self) -> Self:
        if self.island is not None and self.node % self.island:
            raise ValueError(f"topology: islands of {self.island} GPUs don't divide a node of {self.node}")
        return self


class Group(Part):
    """The devices of one model, firmware, cooling class and feeder."""

    group_id: str = Field(pattern=ID_PATTERN)
    type: Literal["ASIC", "GPU"]
    model: str
    firmware: str = "stock"
    cooling_class: str = "air"
    feeder_id: str
    devices: int = Field(gt=0, le=2_000_000)
    states: tuple[StateOverride, ...] = ()
    driver: DriverKind | None = None
    addresses: tuple[str, ...] = ()
    topology: GroupTopology | None = None  # of GPUs; the model's nodes where it is left out
    scheduled: bool = False  # the scheduler says which devices work; the policy, how many at most

    def resolved(self, weights_gib: Mapping[DeviceState, float] | None = None) -> ResolvedGroup:
        """Ladder (rising in IT power) and specifications. `weights_gib`: of what GPUs load for a state, where it is known.

        Raises:
            ValueError: an unknown model without written-out states, or a ladder whose power does not rise.
        """
        shipped = MODELS.get(self.model)
        by_state = {s.state: s for s in states_of(shipped, self.firmware)} if shipped else {}
        for override in self.states:
            by_state[override.state] = _overridden(self, by_state.get(override.state), override)
        if self.type == ResourceType.GPU:
            by_state = self._timed(by_state, weights_gib or {})
        ladder = tuple(sorted(by_state.values(), key=lambda s: s.power_kw))
        if len({s.power_kw for s in ladder}) != len(ladder):
            raise ValueError(f"group {self.group_id}: two states of the same power; a ladder must rise")
        return ResolvedGroup(ladder, _specifications(self, ladder))

    def _timed(
        self, by_state: Mapping[DeviceState, StateSpec], weights_gib: Mapping[DeviceState, float]
    ) -> dict[DeviceState, StateSpec]:
        """GPUs take as long as what they load is large; a time of the file's own stays."""
        own_s = {o.state: o.settle_s for o in self.states if o.settle_s is not None}
        timed = {s: gpu_timed(spec, self.model, weights_gib.get(s), set(by_state)) for s, spec in by_state.items()}
        return {s: replace(spec, settle_s=own_s.get(s, spec.settle_s)) for s, spec in timed.items()}

    @model_validator(mode="after")
    def _model_is_known(self) -> Self:
        shipped = MODELS.get(self.model)
        if shipped is None and len(self.states) < 2:
            known = ", ".join(MODELS)
            raise ValueError(
                f"model {self.model!r} is not in the table ({known}); write out its `states` with power_kw"
            )
        if shipped is not None and shipped.type != self.type:
            raise ValueError(f"model {self.model!r} is of type {shipped.type.value}, not {self.type}")
        if shipped is not None and family(self.firmware) not in shipped.firmware:
            raise ValueError(
                f"firmware {self.firmware!r} is not known for {self.model!r}: use one of {', '.join(shipped.firmware)}"
            )
        if self.topology is not None and self.type != ResourceType.GPU:
            raise ValueError(f"group {self.group_id}: topology is of GPUs, {self.type}s have none")
        ladder = self.resolved().ladder
        if self.scheduled and (self.type != ResourceType.GPU or not any(step.state in AI_STATES for step in ladder)):
            states = ", ".join(step.state.label for step in ladder)
            raise ValueError(
                f"group {self.group_id} is scheduled, but {self.type}s with the states {states} run no customers' work: "
                "leave out `scheduled`, or write out GPUs' `states` with inference_realtime, inference_batch or training"
            )
        return self


def _overridden(group: Group, shipped: StateSpec | None, override: StateOverride) -> StateSpec:
    if shipped is None:
        if override.power_kw is None:
            raise ValueError(f"group {group.group_id}: state {override.state.label} needs power_kw")
        shipped = StateSpec(override.state, override.power_kw, 300.0, 60.0, 20.0)
    return StateSpec(
        state=override.state,
        power_kw=shipped.power_kw if override.power_kw is None else override.power_kw,
        settle_s=shipped.settle_s if override.settle_s is None else override.settle_s,
        ramp_up_s=shipped.ramp_up_s,
        ramp_down_s=shipped.ramp_down_s,
        hash_rate_th_per_s=shipped.hash_rate_th_per_s
        if override.hash_rate_th_per_s is None
        else override.hash_rate_th_per_s,
    )


def _specifications(group: Group, ladder: tuple[StateSpec, ...]) -> dict[str, object]:
    """What `device_groups.specifications` holds: rates by state, ramp times, GPU type."""
    ramps = {s.state.label: {"up": s.ramp_up_s, "down": s.ramp_down_s} for s in ladder}
    shipped = MODELS.get(group.model)
    if group.type == ResourceType.GPU:
        gpu_type = shipped.gpu_type if shipped else group.model
        return {"gpu_type": gpu_type, "gpus_per_node": shipped.gpus_per_node if shipped else 0, "ramp_s": ramps}
    hashing = {s.state: s for s in ladder if s.hash_rate_th_per_s > 0}
    full = max(hashing.values(), key=lambda s: s.power_kw, default=None)
    specifications: dict[str, object] = {
        "hash_rate_th_per_s": full.hash_rate_th_per_s if full else 0.0,
        "efficiency_j_per_th": full.power_kw * 1000 / full.hash_rate_th_per_s if full else 0.0,
        "hash_rate_by_state_th_per_s": {s.label: spec.hash_rate_th_per_s for s, spec in hashing.items()},
        "ramp_s": ramps,
    }
    eco = hashing.get(DeviceState.MINING_ECO)
    if eco is not None:
        specifications["eco"] = {"hash_rate_th_per_s": eco.hash_rate_th_per_s, "power_kw": eco.power_kw}
    return specifications
