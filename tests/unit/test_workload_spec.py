"""Specifications of work within limits, and their class by rules."""

import json

import pytest
from pydantic import ValidationError

from hcp_pipelines.domain.workloads import TRANSITIONS, Tier, WorkloadState, WorkloadType
from hcp_pipelines.workloads.spec import WorkloadSpec, classify_by_rules, priority_of, requirements_of

REALTIME, BATCH = WorkloadType.AI_INFERENCE_REALTIME, WorkloadType.AI_INFERENCE_BATCH
TRAINING, MINING = WorkloadType.MODEL_TRAINING, WorkloadType.BITCOIN_MINING


@pytest.mark.parametrize(
    ("given", "expected", "is_flagged"),
    [
        ({"workload_type": "bitcoin_mining"}, MINING, False),
        ({"model_name": "llama-3-70b", "is_training": True}, TRAINING, False),  # ER-16: a fine-tune is training
        ({"model_name": "llama-3-70b", "max_latency_ms": 800}, REALTIME, False),
        ({"model_name": "GPT-J", "max_latency_ms": 999.9}, REALTIME, False),
        ({"model_name": "stable-diffusion-xl", "max_latency_ms": 1000}, BATCH, False),
        ({"model_name": "stable-diffusion-xl"}, BATCH, False),
        ({"model_name": "our-own", "max_latency_ms": 50}, REALTIME, True),
        ({"model_name": "our-own", "max_latency_ms": 60_000}, BATCH, True),
        ({}, BATCH, True),
        ({"workload_type": "ai_inference_batch", "is_training": True}, BATCH, True),
        ({"workload_type": "ai_inference_realtime", "max_latency_ms": 30_000}, REALTIME, True),
        ({"workload_type": "bitcoin_mining", "model_name": "llama"}, MINING, True),
    ],
)
def test_the_class_by_rules(given, expected, is_flagged):
    found = classify_by_rules(WorkloadSpec.model_validate_json(json.dumps(given)))
    assert (found.type, found.is_flagged) == (expected, is_flagged)
    assert 0 < found.confidence <= 1
    assert found.reasons


def test_the_customers_own_latency_stands_and_defaults_fill_the_rest():
    own = requirements_of(WorkloadSpec(model_name="llama", max_latency_ms=800), REALTIME)
    assert (own.gpu_type, own.max_latency_ms, own.is_interruptible) == ("H100", 800, False)
    assert requirements_of(WorkloadSpec(), REALTIME).max_latency_ms == 100
    batch = requirements_of(WorkloadSpec(interruptible=False), BATCH)
    assert (batch.max_latency_ms, batch.is_interruptible) == (5000, False)
    assert requirements_of(WorkloadSpec(), TRAINING).is_interruptible
    assert requirements_of(WorkloadSpec(gpu_count=20), MINING).gpu_type == "ASIC"


def test_all_ten_priorities_occur():
    kinds = [classify_by_rules(WorkloadSpec(workload_type=kind)) for kind in WorkloadType]
    assert {priority_of(kind, tier) for kind in kinds for tier in Tier} == set(range(1, 11))


def test_a_priority_that_is_asked_for_waits_longer_and_never_pushes_ahead():
    assert classify_by_rules(WorkloadSpec(is_training=True, priority=9)).priority == 9
    pushed = classify_by_rules(WorkloadSpec(is_training=True, priority=1))
    assert pushed.priority == 5
    assert "not moved up" in pushed.reasons[-1]
    assert priority_of(classify_by_rules(WorkloadSpec(priority=10)), Tier.FREE) == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workload_type", "protein_folding"),
        ("gpu_count", 0),
        ("gpu_count", 1.5),
        ("gpu_count", True),
        ("gpu_count", "2"),
        ("priority", True),
        ("max_latency_ms", "800"),
        ("is_training", 1),
        ("is_training", "yes"),
        ("interruptible", "no"),
        ("deadline_at", 1_767_225_600),
        ("deadline_at", "1767225600"),
        ("deadline_at", True),
        ("gpu_count", 65_537),
        ("memory_gb", 0),
        ("memory_gb", float("nan")),
        ("max_latency_ms", -1),
        ("max_latency_ms", float("inf")),
        ("estimated_duration_s", 0),
        ("estimated_duration_s", 1e9),
        ("priority", 0),
        ("priority", 11),
        ("deadline_at", "2026-01-01T00:00:00"),
        ("deadline_at", "9999-01-01T00:00:00Z"),
        ("model_name", "x" * 201),
        ("model_name", "nul\0"),
        ("model_name", "\ud800"),
        ("gpu_type", "'; drop table workloads"),
        ("max_usd_per_gpu_hour", 0),
        ("labels", {f"k{n}": "" for n in range(33)}),
        ("labels", {"": "x"}),
        ("sla_parameters", {"deep": {"a": 1}}),
        ("sla_parameters", {"nan": float("nan")}),
        ("gpus", 3),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        WorkloadSpec.model_validate({field: value})


def test_numbers_of_decoded_json_are_numbers():
    found = WorkloadSpec.model_validate(
        {"gpu_count": 4.0, "max_latency_ms": 800.0, "sla_parameters": {"uptime": 0.999}}
    )
    assert (found.gpu_count, found.max_latency_ms, found.sla_parameters) == (4, 800.0, {"uptime": 0.999})


def test_the_transitions_are_those_of_the_requirements():
    table = {
        "queued": "scheduled cancelled",
        "scheduled": "running cancelled queued failed",
        "running": "completed failed cancelled paused",
        "paused": "running cancelled scheduled",
    }
    expected = {state: frozenset(table.get(state, "").split()) for state in WorkloadState}
    assert {state: frozenset(map(str, after)) for state, after in TRANSITIONS.items()} == expected
    assert [state for state in WorkloadState if state.is_final] == ["completed", "failed", "cancelled"]
