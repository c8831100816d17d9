"""From the lake to a model that serves, and back: trial, promotion by a check or a person, return; and what can go wrong."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.cli import model_serving
from hcp_pipelines.domain.errors import ConfigError, ModelError
from hcp_pipelines.forecasting import serving
from hcp_pipelines.operators import accounts
from hcp_pipelines.orchestration.training import judging, record, targets
from hcp_pipelines.orchestration.training.told import Asked
from hcp_pipelines.orchestration.training.train import train
from hcp_pipelines.storage import models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support import sine
from tests.support.cli import hcp
from tests.support.sine import DAYS, NOW

__all__ = ["hcp"]
BASELINE, TREES = Asked("sine", DAYS, model="naive"), Asked("sine", DAYS)


@pytest.fixture(autouse=True)
def only_sine(monkeypatch):
    monkeypatch.setattr(targets, "TARGETS", sine.WHERE)
    monkeypatch.setattr(record, "record", lambda *_: "recorded elsewhere")  # test_training_record.py does it in truth
    monkeypatch.setattr(record, "follow", lambda *_: [])


@pytest.fixture
def control(settings):
    with connect(settings, Role.CONTROL) as connection:
        sine.write(settings, sine.hours())
        yield connection
    sine.drop(settings)


def learn(control, settings, asked=TREES, now=NOW):
    return train(control, settings, asked, now, "test")


def test_learnt_compared_promoted_served_and_taken_back(settings, control):
    champion = serving.Champion("sine")
    assert champion.get(control) is None
    first = learn(control, settings, BASELINE)
    assert first.told["why"].startswith("not better than seasonal_naive")
    assert judging.judge(control, settings, "sine", "check").passed is False
    models.promote(control, "sine", 1, "ann", "something has to serve", {})
    before = champion.get(control)
    assert before.model == "sine/1"

    made = learn(control, settings)
    assert (made.told["status"], made.version) == ("challenger", 2)
    assert "better than champion 1" in made.told["why"]
    assert champion.get(control) is before, "a challenger is in no decision"
    judged = judging.judge(control, settings, "sine", "check")
    assert judged.passed, judged.why
    assert "version 2 was promoted: better than champion 1 in its trial" in judged.why
    assert champion.get(control).model == "sine/2", "whoever asks has the new one at once"
    assert champion.get(control) is champion.get(control), "read once"
    evidence = control.execute("select detail -> 'evidence' from audit_log order by id desc limit 1").fetchone()[0]
    assert evidence["p_value"] < 0.05

    assert models.roll_back(control, "sine", "ann", "it feels wrong") == (2, 1)
    assert champion.get(control).serving.version == 1
    metadata = models.find(control, "sine", 2).metadata
    assert Asked(**metadata["asked"] | {"groups": ()}) == Asked("sine", DAYS, model="boosted_trees")
    assert metadata["snapshot_id"] > 0
    assert set(metadata["scores"]) == {"challenger", "champion", "naive", "seasonal_naive"}
    assert set(metadata["importance"]) == {"hour", "signal", "last"}
    page = made.page.read_text()
    for words in (
        "Known weaknesses",
        "Diebold–Mariano",
        f"Snapshot {metadata['snapshot_id']}",
        "Calibration",
        "signal",
    ):
        assert words in page
    assert "<script src" not in page, "it needs no network"


def test_the_same_snapshot_code_and_seed_give_the_same_digest(settings, control):
    digests = [learn(control, settings, asked).told["digest"] for asked in (TREES, TREES, Asked("sine", DAYS, seed=1))]
    assert digests[0] == digests[1] != digests[2]


def served_by(control):
    return models.champion(control, "sine").version


@pytest.fixture
def serves(settings, control):
    """Version 1 serves."""
    sine.keep(control)


def spoilt(**columns):
    return sine.hours().with_columns(**columns)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (spoilt().drop("signal"), 'are not as it reads them: unable to find column "signal"'),
        (spoilt(signal=pl.lit(float("inf"))), "signal: infinite; what is not known is NaN"),
        (spoilt(value=pl.lit(None, pl.Float64)), "0 days with a known outcome"),
        (sine.hours(days=20), "days with a known outcome"),
        (spoilt().drop("known_at"), "core.sine__hours has no column known_at, only start_at, value, signal"),
    ],
    ids=["schema changed", "poisoned", "missing", "too short", "not known since when"],
)
def test_what_can_not_be_learnt_from_makes_no_version_and_the_champion_serves_on(settings, control, serves, table, why):
    sine.write(settings, table)
    made = learn(control, settings)
    assert made.version is None
    assert why in made.told["why"]
    assert "version 1 goes on serving" in made.told["why"]
    assert served_by(control) == 1


def test_poison_that_looks_like_numbers_loses_its_trial(settings, control, serves):
    noise = pl.Series(np.random.default_rng(9).normal(0, 900, DAYS * 24))
    is_early = pl.col("start_at") < NOW - timedelta(days=28)
    early = spoilt(signal=pl.when(is_early).then(noise).otherwise("signal"))
    sine.write(settings, early)
    learn(control, settings, now=NOW + timedelta(hours=1))
    judged = judging.judge(control, settings, "sine", "check")
    assert not judged.passed
    assert "version 1 serves: challenger 2 is not better than champion 1 in its trial" in judged.why
    assert served_by(control) == 1


def test_a_tampered_challenger_is_never_promoted(settings, control, serves, database):
    learn(control, settings)
    control.execute("select 1")
    database.execute(
        "update models set artefact = set_byte(artefact, 500, get_byte(artefact, 500) # 1) where version = 2"
    )
    judged = judging.judge(control, settings, "sine", "check")
    assert "version 1 serves: challenger sine 2: its digest is" in judged.why
    with pytest.raises(ModelError, match="is not what was kept"):
        models.promote(control, "sine", 2, "ann", "I insist", {})
    assert served_by(control) == 1


def test_a_damaged_champion_is_told_and_a_person_replaces_it(settings, control, serves, database):
    database.execute("update models set artefact = 'x' where version = 1")
    with pytest.raises(ModelError, match="sine 1: its digest is"):
        serving.Champion("sine").get(control)
    assert "the champion can't be read" in learn(control, settings).told["why"]
    assert not judging.judge(control, settings, "sine", "check").passed
    models.promote(control, "sine", 2, "ann", "the other one is damaged", {})
    assert serving.Champion("sine").get(control).serving.version == 2


def test_promotions_while_others_read_are_seen_whole(settings, control, serves):
    sine.keep(control, "archived", seed=1)

    def back_and_forth():
        with connect(settings, Role.CONTROL) as connection:
            for _ in range(20):
                models.promote(connection, "sine", 2, "ann", "better", {})
                models.roll_back(connection, "sine", "ann", "worse")

    champion, seen = serving.Champion("sine"), set()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(back_and_forth)
        while not done.done():
            seen.add(champion.get(control).serving.version)
        done.result()
    assert seen <= {1, 2}, "never nobody, never both: the bytes that are read are those of the digest that serves"
    assert champion.get(control).serving.version == 1


def test_evidence_counts_against_the_champion_that_it_was_measured_against(settings, control):
    sine.keep(control, model=sine.SINE.models[0])
    learn(control, settings, Asked("sine", DAYS, may_promote=False))
    assert "promotion was not asked for" in judging.judge(control, settings, "sine", "check").why
    learn(control, settings)
    models.promote(control, "sine", 2, "ann", "another one", {})
    judged = judging.judge(control, settings, "sine", "check")
    assert "challenger 3 was measured against champion 1; the shadow measures it anew" in judged.why
    assert served_by(control) == 2


def test_a_person_who_promotes_while_a_check_judges_has_the_last_word(settings, control, monkeypatch):
    sine.keep(control, model=sine.SINE.models[0])
    sine.keep(control, "archived", seed=3)
    learn(control, settings)
    reads = judging.served

    def read_slowly(connection, asked):
        with connect(settings, Role.CONTROL) as person:
            models.promote(person, "sine", 2, "ann", "I know better", {})
        return reads(connection, asked)

    monkeypatch.setattr(judging, "served", read_slowly)
    judged = judging.judge(control, settings, "sine", "check")
    assert not judged.passed
    assert "sine 3 was measured against 1, 2 serves now" in judged.why
    assert served_by(control) == 2
    with pytest.raises(ConfigError, match="sine 1 is archived by now"):
        models.promote_measured(control, "sine", 1, 2, "check", "late", {})


def test_what_learnt_of_some_groups_is_promoted_for_all_by_a_person_alone(settings, control):
    sine.keep(control, model=sine.SINE.models[0])
    learn(control, settings, Asked("sine", DAYS, ("all",)))
    judged = judging.judge(control, settings, "sine", "check")
    assert "challenger 2 learnt of all alone and would serve all: `hcp model promote`" in judged.why
    assert served_by(control) == 1


def test_taking_back_goes_one_further_back_each_time_and_ends(settings, control):
    sine.keep(control)
    sine.keep(control, "archived", seed=1)
    sine.keep(control, "archived", seed=2)
    for version in (2, 1):
        models.promote(control, "sine", version, "ann", "to and fro", {})
    assert models.roll_back(control, "sine", "ann", "back") == (1, 2)
    models.promote(control, "sine", 3, "ann", "another one", {})
    gone = [models.roll_back(control, "sine", "ann", "back") for _ in range(2)]
    assert gone == [(3, 2), (2, 1)]
    with pytest.raises(ConfigError, match="sine 1 took no other's place"):
        models.roll_back(control, "sine", "ann", "back")


def test_who_promotes_is_told_who_asks(settings, control, serves, hcp, monkeypatch):
    sine.keep(control, "archived", seed=1)
    with connect(settings, Role.OPERATOR) as connection:
        accounts.add(settings, connection, "ann", accounts.OperatorRole.OPERATOR, "test")
    asked = ("--state-dir", settings.state_dir, "model", "promote", "sine", "2", "--reason", "to see", "--as", "ann")
    monkeypatch.setattr(model_serving, "TARGETS", sine.WHERE)
    done = hcp(*asked)
    assert done.out.strip() == "sine 2 serves in place of 1"
    assert "Nothing asks sine yet: what is decided and answered stays as it was." in done.err
    monkeypatch.setattr(model_serving, "READ_BY", {"sine": "the sun"})
    asked = ("--state-dir", settings.state_dir, "model", "rollback", "sine", "--reason", "to see", "--as", "ann")
    assert "Asked by the sun." in hcp(*asked).err


def test_wrong_requests_say_what_there_is(settings, control):
    for asked, why in (
        (Asked("cosine"), "'cosine' is no target: there are sine"),
        (Asked("sine", model="magic"), "no model 'magic': there are naive, seasonal_naive, boosted_trees"),
        (Asked("sine", days=30), "days=30: must be 56 to 3700"),
    ):
        with pytest.raises(ConfigError, match=why):
            learn(control, settings, asked)
    assert "there is all" in learn(control, settings, Asked("sine", DAYS, ("none",))).told["why"]
