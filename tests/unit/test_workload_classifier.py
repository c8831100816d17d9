"""The shipped classifier: stated classes honoured, doubts told, what it isn't sure of left to rules, reasons that are so."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

from hcp_pipelines.api import service
from hcp_pipelines.cli import model_classes
from hcp_pipelines.domain.errors import ConfigError, ModelError
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.workloads.classifier import model as model_of
from hcp_pipelines.workloads.classifier.classify import MOST_REASONS, SURE_FROM, classify
from hcp_pipelines.workloads.classifier.evidence import NAMES, evidence_of
from hcp_pipelines.workloads.classifier.lessons import read_lessons
from hcp_pipelines.workloads.classifier.model import CLASSES, SHIPPED, SHIPPED_DIGEST, Classifier, digest_of, read
from hcp_pipelines.workloads.spec import WorkloadSpec, classify_by_rules

REALTIME, BATCH = WorkloadType.AI_INFERENCE_REALTIME, WorkloadType.AI_INFERENCE_BATCH
TRAINING, MINING = WorkloadType.MODEL_TRAINING, WorkloadType.BITCOIN_MINING
CHAT = {"model_name": "concierge-9b", "max_latency_ms": 1500, "interruptible": False, "batch_size": 1}
RUN = {"model_name": "run-7", "gpu_count": 16, "memory_gb": 72, "checkpoint_interval_s": 1800, "interruptible": True}


@pytest.fixture(scope="module")
def shipped():
    return model_of.shipped()


def test_the_shipped_model_is_small_and_the_one_whose_digest_is_told(shipped):
    kept = SHIPPED.read_bytes()
    assert len(kept) < 1_000_000
    assert shipped.digest == digest_of(kept) == SHIPPED_DIGEST.read_text().strip()
    assert shipped.told["held_out"].keys() == {"agency", "laboratory"}
    assert Classifier.from_bytes(kept, shipped.digest).to_bytes() == kept


def test_another_file_than_was_shipped_is_refused(tmp_path):
    kept = bytearray(SHIPPED.read_bytes())
    kept[len(kept) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(bytes(kept))
    with pytest.raises(ModelError, match=r"a\.sha256"):
        read(tmp_path / "a.npz")
    shutil.copy(SHIPPED_DIGEST, tmp_path / "a.sha256")
    with pytest.raises(ModelError, match="it is not what was promoted"):
        read(tmp_path / "a.npz")
    (tmp_path / "a.sha256").write_text(digest_of(bytes(kept)))
    with pytest.raises(ModelError, match=r"a\.npz: it can't be read"):
        read(tmp_path / "a.npz")


def test_a_model_of_other_columns_or_classes_is_refused(shipped, monkeypatch):
    kept = shipped.to_bytes()
    with pytest.raises(ModelError, match="must be 4"):
        Classifier(shipped.trees[:3], 1.0)
    with pytest.raises(ModelError, match="temperature"):
        Classifier(shipped.trees, float("nan"))
    monkeypatch.setattr(model_of, "NAMES", NAMES[:-1])
    with pytest.raises(ModelError, match="other classes or columns"):
        Classifier.from_bytes(kept, digest_of(kept))


def test_it_is_listed_with_what_it_scored_and_where_it_is_unfit_rules_serve(shipped, monkeypatch, tmp_path):
    row = model_classes.listed()
    assert (row["name"], row["status"], row["digest"]) == ("workload_class", "serves", shipped.digest[:12])
    assert "agency 9" in row["reason"]
    monkeypatch.setattr(model_of, "SHIPPED", tmp_path / "none.npz")
    row = model_classes.listed()
    assert row["status"] == "unfit: rules serve"
    assert "none.npz" in row["reason"]
    with capture_logs() as told:
        context = SimpleNamespace(log=structlog.get_logger())
        assert service._classifier(context) is None
    assert [(each["log_level"], "rules serve" in each["event"]) for each in told] == [("error", True)]


def test_reading_and_asking_needs_no_scikit_learn():
    code = (
        "import sys; from hcp_pipelines.workloads.classifier import classify, model; from hcp_pipelines.workloads.spec "
        "import WorkloadSpec; classify.classify(WorkloadSpec(), model.shipped()); print('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_without_a_model_rules_answer():
    for given in ({}, CHAT, RUN):
        assert classify(WorkloadSpec.model_validate(given)) == classify_by_rules(WorkloadSpec.model_validate(given))


@pytest.mark.parametrize(("given", "expected", "by_rules"), [(CHAT, REALTIME, BATCH), (RUN, TRAINING, BATCH)])
def test_what_rules_get_wrong_is_told_with_confidence_and_reasons(shipped, given, expected, by_rules):
    spec = WorkloadSpec.model_validate(given)
    found = classify(spec, shipped)
    assert classify_by_rules(spec).type is by_rules
    assert (found.type, found.is_flagged) == (expected, False)
    assert SURE_FROM <= found.confidence <= 1
    assert 0 < len(found.reasons) <= MOST_REASONS


@pytest.mark.parametrize(
    ("given", "part", "words"),
    [
        ({"is_training": True, "gpu_count": 4}, "is_training", "is_training is set"),
        (CHAT, "interruptible", "it may not be interrupted"),
        (RUN, "checkpoint_interval_s", "checkpoint_interval_s is 1800"),
        (
            {"gpu_count": 50, "labels": {"hashrate_th_per_s": "9000"}},
            "labels",
            "its words speak of mining: hashrate",
        ),
    ],
)
def test_a_reason_is_something_without_which_the_class_would_be_less_likely(shipped, given, part, words):
    found = classify(WorkloadSpec.model_validate(given), shipped)
    assert words in found.reasons
    less = WorkloadSpec.model_validate({name: value for name, value in given.items() if name != part})
    place = CLASSES.index(found.type)
    rows = np.stack([evidence_of(WorkloadSpec.model_validate(given)).row, evidence_of(less).row])
    with_it, without_it = shipped.probabilities(rows)[:, place]
    assert without_it < with_it


def test_a_stated_class_is_honoured_and_flagged_where_all_else_speaks_for_another(shipped):
    wrong = classify(WorkloadSpec.model_validate(RUN | {"workload_type": REALTIME}), shipped)
    assert (wrong.type, wrong.is_flagged) == (REALTIME, True)
    assert wrong.reasons[-2].startswith("in doubt: all else speaks for model_training")
    assert (wrong.priority, wrong.reasons[-1]) == (5, "it waits as model_training, the less urgent of both")
    urgent = classify(WorkloadSpec.model_validate(CHAT | {"workload_type": TRAINING}), shipped)
    assert (urgent.is_flagged, urgent.priority) == (True, 5), "nor does a doubt move anything up"
    right = classify(WorkloadSpec.model_validate(RUN | {"workload_type": TRAINING}), shipped)
    assert (right.type, right.confidence, right.is_flagged) == (TRAINING, 1.0, False)


@pytest.mark.parametrize("stated", CLASSES)
def test_a_stated_class_alone_is_not_doubted(shipped, stated):
    assert not classify(WorkloadSpec(workload_type=stated, gpu_count=100), shipped).is_flagged


def test_little_said_is_little_sure_rules_decide_and_it_is_flagged(shipped):
    for given in (
        {"model_name": "ours", "gpu_count": 2},
        {"batch_size": 64, "gpu_count": 1},
        {"memory_gb": 40, "gpu_count": 1},
    ):
        spec = WorkloadSpec.model_validate(given)
        found = classify(spec, shipped)
        assert (found.type, found.is_flagged) == (classify_by_rules(spec).type, True)
        assert found.reasons[0].startswith("the model is not sure")
        assert found.confidence < SURE_FROM


def test_one_thing_alone_is_for_rules(shipped):
    for given in ({}, {"gpu_count": 8}, {"is_training": True}, {"max_latency_ms": 20}, {"labels": {"team": "x"}}):
        spec = WorkloadSpec.model_validate(given)
        assert classify(spec, shipped) == classify_by_rules(spec)


def test_a_priority_that_is_asked_for_waits_longer_and_never_pushes_ahead(shipped):
    assert classify(WorkloadSpec.model_validate(CHAT | {"priority": 8}), shipped).priority == 8
    pushed = classify(WorkloadSpec.model_validate(CHAT | {"priority": 1}), shipped)
    assert pushed.priority == 2
    assert "not moved up" in pushed.reasons[-1]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line 2: JSONDecodeError"),
        ("[]", "line 2: TypeError"),
        ('{"spec": {}}', "line 2: KeyError"),
        ('{"spec": {}, "label": 3}', "label is 3"),
        ('{"spec": {}, "label": {"workload_type": "folding"}}', "folding"),
        ('{"spec": {}, "label": {"workload_type": "model_training"}, "setting": "x"}', "setting is 'x'"),
        ("[" * 100_000, "line 2: RecursionError"),
        (" " * (1 << 20) + "{}", "at most 1,048,576"),
    ],
)
def test_a_line_that_is_no_lesson_is_told_by_its_number(tmp_path, line, why):
    path = tmp_path / "lessons.ndjson"
    path.write_text(json.dumps({"spec": {}, "label": {"workload_type": "model_training"}}) + f"\n{line}\n")
    with pytest.raises(ConfigError, match=why):
        read_lessons(path)


def test_specifications_that_are_refused_are_counted_and_left_out(tmp_path):
    path, label = tmp_path / "lessons.ndjson", {"workload_type": "model_training"}
    path.write_text("".join(json.dumps({"spec": spec, "label": label}) + "\n" for spec in ({}, None, {"gpus": 3})))
    found = read_lessons(path)
    assert (len(found.taken), found.left_out) == (1, 2)
    path.write_text("")
    with pytest.raises(ConfigError, match="no line"):
        read_lessons(path)
