"""Whatever specification is taken has a class: nothing extreme, empty or hostile makes the classifier fail or answer nonsense."""

import json
from datetime import UTC, datetime

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hcp_pipelines.workloads.classifier.classify import classify
from hcp_pipelines.workloads.classifier.evidence import evidence_of
from hcp_pipelines.workloads.classifier.model import shipped
from hcp_pipelines.workloads.spec import LONGEST_S, MOST_GPUS, WorkloadSpec, WorkloadType, classify_by_rules

MODEL = shipped()
TEXT = st.text(st.characters(min_codepoint=0x20, exclude_characters="\x7f", codec="utf-8"), max_size=200)
HOSTILE = st.sampled_from(
    [
        "9" * 200,
        "1e308",
        "1e-320",
        "-0",
        "nan",
        "inf",
        "0x0b",
        "0b",
        "0.000m",
        "999x9999b",
        "b" * 200,
        "١٢b",
        "8" * 60 + "x8b",
    ]
)
WORDS = TEXT | HOSTILE
KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9._/-]{0,20}", fullmatch=True) | st.sampled_from(
    ["model_parameters_billion", "input_tokens", "output_tokens", "data_gb", "hashrate_th_per_s"]
)
POSITIVE = st.floats(min_value=5e-324, allow_nan=False, allow_infinity=False)


def up_to(most):
    return st.none() | st.just(most) | st.just(5e-324) | st.floats(5e-324, most)


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "workload_type": st.sampled_from(WorkloadType),
        "gpu_type": st.sampled_from(["H100", "ASIC", "Antminer S21", "x"]),
        "gpu_count": st.integers(1, MOST_GPUS),
        "memory_gb": up_to(4096.0),
        "max_latency_ms": up_to(86_400_000.0),
        "estimated_duration_s": up_to(LONGEST_S),
        "interruptible": st.none() | st.booleans(),
        "model_name": st.none() | WORDS,
        "batch_size": st.none() | st.integers(1, 1_000_000_000),
        "is_training": st.booleans(),
        "deadline_at": st.just(datetime(2027, 1, 1, tzinfo=UTC)),
        "checkpoint_interval_s": up_to(LONGEST_S),
        "priority": st.integers(1, 10),
        "sla_parameters": st.dictionaries(
            KEYS, st.booleans() | POSITIVE | st.floats(-1e300, 1e300) | WORDS, max_size=4
        ),
        "labels": st.dictionaries(KEYS, WORDS, max_size=4),
    },
)


@settings(deadline=None, max_examples=150)
@given(SPECS)
@example({"model_name": "9" * 199 + "b", "labels": {"model_parameters_billion": "1e-320"}, "memory_gb": 5e-324})
@example({"labels": {f"k{n}": "train-" * 33 for n in range(32)}})
def test_every_specification_has_a_class_a_confidence_and_reasons(told):
    spec = WorkloadSpec.model_validate(told)
    found = classify(spec, MODEL)
    assert 0.0 <= found.confidence <= 1.0
    assert 1 <= found.priority <= 10
    assert found.reasons
    assert all(found.reasons)
    json.dumps(found.reasons, allow_nan=False)
    if spec.workload_type is not None:
        assert found.type is spec.workload_type
    elif found.is_flagged:
        assert found.type is classify_by_rules(spec).type
    if "words of mining" not in evidence_of(spec).told and spec.workload_type is None:
        assert found.type is not WorkloadType.BITCOIN_MINING, (
            "GPU work is not sent to miners unless it speaks of mining"
        )
