"""The classifier on work that it learnt nothing from: other assumptions, specifications by hand, rows of real traces."""

from functools import cache
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.workloads.classifier.classify import classify
from hcp_pipelines.workloads.classifier.learning import learn
from hcp_pipelines.workloads.classifier.lessons import Lesson, read_lessons
from hcp_pipelines.workloads.classifier.model import read, shipped
from hcp_pipelines.workloads.classifier.scores import score
from hcp_pipelines.workloads.spec import WorkloadSpec
from simulators.workloads import assumed, fitted, lessons
from simulators.workloads.generator import Plan, submissions
from simulators.workloads.variants import POOLS

HELD_OUT = Path(assumed.__file__).with_name("held_out")
WRITTEN = Path(__file__).with_name("written_specifications.yaml")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
MODEL = shipped()
REALTIME, BATCH = WorkloadType.AI_INFERENCE_REALTIME, WorkloadType.AI_INFERENCE_BATCH
with_traces = pytest.mark.skipif(not SHARED.is_dir(), reason="the traces are not beside the project")


@cache
def held_out(name):
    plan = Plan(5, 1.0, lessons.START_S, lessons.START_S + 1e7, is_flat=True, malformed=0.0)
    stream = submissions(plan, assumed.load(HELD_OUT / f"{name}.yaml"), fitted.load())
    return [
        Lesson(
            WorkloadSpec.model_validate(each.spec),
            WorkloadType(each.label["workload_type"]),
            0,
            each.label["defect"] is None and each.label["ambiguity"] is None,
        )
        for each in islice(stream, 1500)
    ]


@pytest.mark.parametrize("name", ["agency", "laboratory"])
def test_sound_work_under_assumptions_never_learnt_from_is_told_beyond_95_percent(name):
    found = score([each for each in held_out(name) if each.is_sound], MODEL)
    assert found.accuracy > 0.95
    assert found.accuracy_unstated > 0.95
    assert found.accuracy > found.rules_accuracy + 0.02
    assert min(found.recall.values()) > 0.93
    assert found.flagged < 0.1
    assert found.calibration_error < 0.05
    assert sum(sum(row.values()) for row in found.confusion.values()) == found.count > 1200


@pytest.mark.parametrize("name", ["agency", "laboratory"])
def test_ambiguous_work_is_told_better_than_by_rules_and_flagged_more_often(name):
    sound, other = ([each for each in held_out(name) if each.is_sound is is_sound] for is_sound in (True, False))
    found = score(other, MODEL)
    assert found.accuracy > found.rules_accuracy + 0.1
    assert found.accuracy < 0.95, "nobody can tell these: a figure like that of sound work would be a leak"
    assert found.flagged > 2 * score(sound, MODEL).flagged


def test_held_out_files_share_no_model_with_what_is_learnt_from():
    taught = {name for pool in POOLS.values() for name in pool}
    taught |= {name for family in assumed.load().families.values() for name in family.models}
    for path in HELD_OUT.glob("*.yaml"):
        families = assumed.load(path).families.values()
        assert not taught & {name for family in families for name in family.models}


def test_specifications_written_by_hand():
    written = yaml.safe_load(WRITTEN.read_text())
    answers = [(each, classify(WorkloadSpec.model_validate(each["spec"]), MODEL)) for each in written]
    plain = [answer.type == each["is"] for each, answer in answers if not each.get("hard")]
    assert sum(plain) / len(plain) > 0.95
    assert sum(answer.type == each["is"] for each, answer in answers) / len(answers) > 0.9


@with_traces
def test_requests_of_real_traces_with_what_a_trace_tells():
    language = [
        {"model_name": "gpt-4", "labels": {"input_tokens": str(read_), "output_tokens": str(written)}}
        for name in ("conv", "code")
        for read_, written in pl.read_parquet(SHARED / f"azure_llm_2023_{name}_first_half.parquet")
        .select("context_tokens", "generated_tokens")
        .tail(300)
        .iter_rows()
    ]
    images = [
        {
            "model_name": "image-service",
            "estimated_duration_s": seconds,
            "batch_size": int(count),
            "interruptible": True,
        }
        for seconds, count in pl.read_parquet(SHARED / "alibaba_genai_v2026_requests_first_half.parquet")
        .select("exec_time_seconds", "num_images_per_prompt")
        .drop_nulls()
        .filter(pl.all_horizontal(pl.all() > 0))
        .tail(300)
        .iter_rows()
    ]
    for spec in language:
        without, with_it = (
            classify(WorkloadSpec.model_validate(each), MODEL) for each in (spec, spec | {"max_latency_ms": 900})
        )
        assert (with_it.type, with_it.is_flagged) == (REALTIME, False)
        assert without.type is REALTIME or without.is_flagged, "without a latency nobody can be sure"
    answers = [classify(WorkloadSpec.model_validate(spec), MODEL) for spec in images]
    assert sum(answer.type is BATCH for answer in answers) / len(answers) > 0.95


def test_the_same_lessons_and_seed_give_the_same_file(tmp_path):
    taught = tmp_path / "lessons.ndjson"
    assert lessons.main(["--settings", "4", "--count", "500", "--out", str(taught)]) == 0
    digests = []
    for name, seed in (("a", 1), ("b", 1)):
        words = ["model", "learn-classes", str(taught), "--seed", str(seed), "--out", str(tmp_path / f"{name}.npz")]
        learnt = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert learnt.exit_code == 0, learnt.output
        digests.append(read(tmp_path / f"{name}.npz").digest)
    assert digests[0] == digests[1]
    told = CliRunner().invoke(
        cli, ["model", "score-classes", str(taught), "--model", str(tmp_path / "a.npz"), "--json"]
    )
    assert '"which": "sound"' in told.output, told.output


def test_too_little_to_learn_from_is_refused(tmp_path):
    taught = tmp_path / "lessons.ndjson"
    lessons.main(["--settings", "2", "--count", "100", "--out", str(taught)])
    few = read_lessons(taught).taken
    with pytest.raises(ConfigError, match="at least 20 of each class"):
        learn(few, 1)
    with pytest.raises(ConfigError, match="at least 2 are needed"):
        learn([each for each in few if each.setting == 0], 1)
