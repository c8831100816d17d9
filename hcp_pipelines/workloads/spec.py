"""What a customer asks for, within limits, and which class of work it is by rules.

Nothing of the fleet and no clock: whether it can be had is admission's to say. A learnt classifier (`classifier/`) answers with
the same `Classified`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, field_validator

from hcp_pipelines.domain.clock import FIRST_YEAR, LAST_YEAR
from hcp_pipelines.domain.given import instant_given, number_given
from hcp_pipelines.domain.workloads import Tier, WorkloadState, WorkloadType

__all__ = [
    "Classified", "Requirements", "Tier", "WorkloadSpec", "WorkloadState", "WorkloadType", "as_doubted", "base_priority_of",
    "classified_as", "classify_by_rules", "priority_of", "requirements_of",
]  # fmt: skip

MOST_ENTRIES: Final = 32
MOST_GPUS: Final = 65_536
LONGEST_S: Final = 90 * 86_400.0
REALTIME_BELOW_MS: Final = 1000.0
FLAG_BELOW: Final = 0.7
MOST_URGENT, LEAST_URGENT = 1, 10

_Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9._/-]{0,62}$")]
_GpuType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$")]


class WorkloadSpec(BaseModel):
    """One piece of work as it is asked for; what isn't said takes its class's default (`requirements_of`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workload_type: WorkloadType | None = Field(None, description="honoured where given; else inferred")
    gpu_type: _GpuType | None = Field(
        None, description="a type or model of the fleet, like H100; GPU: any", examples=["H100"]
    )
    gpu_count: int = Field(1, ge=1, le=MOST_GPUS, description="all at once; of mining: miners")
    memory_gb: float | None = Field(None, gt=0, le=4096, description="of each GPU")
    max_latency_ms: float | None = Field(None, gt=0, le=86_400_000)
    estimated_duration_s: float | None = Field(None, gt=0, le=LONGEST_S, description="of running, without waiting")
    interruptible: bool | None = Field(None, strict=True, description="whether it may be paused for more urgent work")
    model_name: _Text | None = Field(None, examples=["llama-3-70b"])
    batch_size: int | None = Field(None, ge=1, le=1_000_000_000)
    is_training: bool = Field(False, strict=True)
    deadline_at: AwareDatetime | None = Field(None, description="when it has to be done, world time")
    max_usd_per_gpu_hour: float | None = Field(None, gt=0, le=10_000)
    checkpoint_interval_s: float | None = Field(None, gt=0, le=LONGEST_S)
    priority: int | None = Field(
        None, ge=MOST_URGENT, le=LEAST_URGENT, description="1 is most urgent; more urgent than its class begins at is not given"
    )  # fmt: skip
    sla_parameters: dict[_Key, bool | FiniteFloat | _Text] = Field(default_factory=dict, max_length=MOST_ENTRIES)
    labels: dict[_Key, _Text] = Field(default_factory=dict, max_length=MOST_ENTRIES)

    _numbers = field_validator(
        "gpu_count", "memory_gb", "max_latency_ms", "estimated_duration_s", "batch_size", "max_usd_per_gpu_hour",
        "checkpoint_interval_s", "priority", mode="before",
    )(number_given)  # fmt: skip
    _instants = field_validator("deadline_at", mode="before")(instant_given)

    @field_validator("deadline_at")
    @classmethod
    def _in_our_time(cls, given: AwareDatetime | None) -> AwareDatetime | None:
        if given is not None and not FIRST_YEAR <= given.year < LAST_YEAR:
            raise ValueError(f"a deadline lies between the years {FIRST_YEAR} and {LAST_YEAR}, not in {given.year}")
        return given


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a workload needs, defaults filled in (WL-02)."""

    gpu_type: str
    gpu_count: int
    memory_gb: float | None
    max_latency_ms: float | None
    estimated_duration_s: float
    is_interruptible: bool


@dataclass(frozen=True, slots=True)
class Classified:
    """A class with why. `confidence` (0–1) of a rule is its weight, no measured frequency, of a model's a calibrated chance.

    Flagged ones want a look.
    """

    type: WorkloadType
    priority: int
    confidence: float
    reasons: tuple[str, ...]
    is_flagged: bool


@dataclass(frozen=True, slots=True)
class _Class:
    base_priority: int
    gpu_type: str
    max_latency_ms: float | None
    estimated_duration_s: float
    is_interruptible: bool


# WL-08…WL-11. The priorities are spread so that with the tiers all ten occur (ER-17). A duration that isn't estimated is charged
# as this one until the work shows its own.
_CLASSES: Final[Mapping[WorkloadType, _Class]] = {
    WorkloadType.AI_INFERENCE_REALTIME: _Class(2, "H100", 100.0, 3600.0, is_interruptible=False),
    WorkloadType.MODEL_TRAINING: _Class(5, "H100", None, 8 * 3600.0, is_interruptible=True),
    WorkloadType.AI_INFERENCE_BATCH: _Class(6, "H100", 5000.0, 3600.0, is_interruptible=True),
    WorkloadType.BITCOIN_MINING: _Class(9, "ASIC", None, 3600.0, is_interruptible=True),
}
_TIER_STEP: Final[Mapping[Tier, int]] = {Tier.ENTERPRISE: -1, Tier.PRO: 0, Tier.FREE: 1}
_INFERENCE_MODELS: Final = ("stable-diffusion", "llama", "gpt")


def requirements_of(spec: WorkloadSpec, workload_type: WorkloadType) -> Requirements:
    """What is needed; the customer's own word stands before the class's default."""
    usual = _CLASSES[workload_type]
    return Requirements(
        gpu_type=spec.gpu_type or usual.gpu_type,
        gpu_count=spec.gpu_count,
        memory_gb=spec.memory_gb,
        max_latency_ms=usual.max_latency_ms if spec.max_latency_ms is None else spec.max_latency_ms,
        estimated_duration_s=spec.estimated_duration_s or usual.estimated_duration_s,
        is_interruptible=usual.is_interruptible if spec.interruptible is None else spec.interruptible,
    )


def priority_of(classified: Classified, tier: Tier) -> int:
    """The priority in the queue, by tier (WL-12), 1–10.

    >>> realtime = Classified(WorkloadType.AI_INFERENCE_REALTIME, 2, 1.0, (), is_flagged=False)
    >>> [priority_of(realtime, tier) for tier in (Tier.ENTERPRISE, Tier.PRO, Tier.FREE)]
    [1, 2, 3]
    """
    return min(max(classified.priority + _TIER_STEP[tier], MOST_URGENT), LEAST_URGENT)


def base_priority_of(workload_type: WorkloadType) -> int:
    """What a class begins at, before tiers."""
    return _CLASSES[workload_type].base_priority


def as_doubted(stated: Classified, likelier: WorkloadType) -> Classified:
    """A stated class that all else contradicts: honoured, at the less urgent priority of both."""
    priority = base_priority_of(likelier)
    if priority <= stated.priority:
        return stated
    why = f"it waits as {likelier}, the less urgent of both"
    return replace(stated, priority=priority, reasons=(*stated.reasons, why))


def classify_by_rules(spec: WorkloadSpec) -> Classified:
    """The class by what the specification says (WL-04…WL-06); training is asked before the model's name (ER-16)."""
    if spec.workload_type is not None:
        return _stated(spec, spec.workload_type)
    training = WorkloadType.MODEL_TRAINING, 0.95, ["is_training is set"]
    workload_type, confidence, reasons = training if spec.is_training else _inference(spec)
    return classified_as(spec, workload_type, confidence, reasons, is_flagged=confidence < FLAG_BELOW)


def classified_as(
    spec: WorkloadSpec, workload_type: WorkloadType, confidence: float, reasons: Sequence[str], *, is_flagged: bool
) -> Classified:
    """A class with the priority that it begins at, or a less urgent one that was asked for."""
    base = base_priority_of(workload_type)
    why = list(reasons)
    if spec.priority is not None and spec.priority < base:
        why.append(f"priority {spec.priority} was asked for, {workload_type} begins at {base}: it is not moved up")
    return Classified(workload_type, max(base, spec.priority or base), confidence, tuple(why), is_flagged)


def _stated(spec: WorkloadSpec, stated: WorkloadType) -> Classified:
    """The customer's word; doubted, and honoured, where the rest says otherwise."""
    doubts: list[tuple[str, WorkloadType]] = []
    if spec.is_training and stated is not WorkloadType.MODEL_TRAINING:
        doubts.append(("is_training is set", WorkloadType.MODEL_TRAINING))
    if stated is WorkloadType.AI_INFERENCE_REALTIME and (spec.max_latency_ms or 0.0) >= REALTIME_BELOW_MS:
        slow = f"max_latency_ms is {spec.max_latency_ms:g}, real time is below {REALTIME_BELOW_MS:g}"
        doubts.append((slow, WorkloadType.AI_INFERENCE_BATCH))
    if stated is WorkloadType.BITCOIN_MINING and spec.model_name:
        doubts.append((f"a model is named, {spec.model_name}", WorkloadType.AI_INFERENCE_BATCH))
    reasons = [f"workload_type says {stated}", *(f"in doubt: {doubt}" for doubt, _ in doubts)]
    found = classified_as(spec, stated, 0.6 if doubts else 1.0, reasons, is_flagged=bool(doubts))
    for _, likelier in doubts:
        found = as_doubted(found, likelier)
    return found


def _inference(spec: WorkloadSpec) -> tuple[WorkloadType, float, list[str]]:
    known = next((name for name in _INFERENCE_MODELS if name in (spec.model_name or "").lower()), None)
    reasons = [f"model {spec.model_name} is of the family {known}" if known else "no known model is named"]
    if spec.max_latency_ms is None:
        reasons.append("no latency is asked for: a batch")
        return WorkloadType.AI_INFERENCE_BATCH, 0.75 if known else 0.5, reasons
    if spec.max_latency_ms < REALTIME_BELOW_MS:
        reasons.append(f"max_latency_ms {spec.max_latency_ms:g} is below {REALTIME_BELOW_MS:g}")
        return WorkloadType.AI_INFERENCE_REALTIME, 0.9 if known else 0.6, reasons
    reasons.append(f"max_latency_ms {spec.max_latency_ms:g} leaves time for a batch")
    return WorkloadType.AI_INFERENCE_BATCH, 0.9 if known else 0.6, reasons
