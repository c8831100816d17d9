"""Models learn what can be learnt, cover what they say, are the same again as bytes, and say what scikit-learn says."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

from hcp_pipelines.domain.errors import ConfigError, ModelError
from hcp_pipelines.forecasting.hindsight import TrainedTooLateError
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.learnable import files
from hcp_pipelines.forecasting.learnable.blend import Blend
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import Learning, lesson
from hcp_pipelines.forecasting.learnable.models import BoostedTrees, Forest, Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.protocol import LEVELS, TooShortError
from hcp_pipelines.forecasting.model_file import digest_of
from tests.support.learnable import changed_after, day, examples_of

SOFT = Framing(softness=2.0)
FEW = BoostedTrees(Framing(""), trees=10, learning_rate=0.2, least_in_leaf=20)
MODELS = {
    "seasonal_naive": SeasonalNaive(),
    "naive": Naive(),
    "boosted_trees": BoostedTrees(Framing(""), trees=30, least_in_leaf=20),
    "soft_trees": BoostedTrees(SOFT, trees=15, learning_rate=0.15, least_in_leaf=20, name="soft_trees"),
    "random_forest": Forest(trees=12),
    "blend": Blend((FEW, replace(FEW, framing=SOFT)), toward="last", share=0.1, framing=Framing("")),
}
UNTIL = day(50)


@pytest.fixture(scope="module")
def examples():
    return examples_of()


@pytest.fixture(scope="module")
def learnt(examples):
    return {name: model.fit(examples, UNTIL) for name, model in MODELS.items()}


@pytest.fixture(scope="module")
def later(examples):
    return examples.only(examples.asked_us >= microseconds(UNTIL))


def loss(found, examples):
    error = examples.target[:, None] - found
    return np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error).mean()


def test_what_learns_beats_what_repeats_and_all_cover(learnt, later):
    losses = {}
    for name, model in learnt.items():
        found = model.predict(later)
        assert found.shape == (len(later), len(LEVELS))
        assert (np.diff(found, axis=1) >= 0).all()
        inside = ((found[:, 1] <= later.target) & (later.target <= found[:, 5])).mean()
        assert inside == pytest.approx(0.8, abs=0.07), name
        losses[name] = loss(found, later)
    assert losses["boosted_trees"] < 0.6 * losses["seasonal_naive"]
    for name in ("random_forest", "soft_trees", "blend"):  # no model gets rid of its anchor's own noise
        assert losses[name] < 0.9 * losses["seasonal_naive"], name


def plain(model):
    return json.loads(json.dumps(dict(model.describe())))


@pytest.mark.parametrize("name", list(MODELS))
def test_a_file_gives_the_same_model_and_learning_again_gives_the_same_bytes(name, learnt, examples, later):
    kept = learnt[name].to_bytes()
    again = files.read(kept, digest_of(kept))
    assert again.predict(later).tobytes() == learnt[name].predict(later).tobytes()
    assert again.to_bytes() == kept
    assert (again.name, again.trained_until, again.levels) == (name, UNTIL, LEVELS)
    assert plain(again) == plain(learnt[name])
    assert MODELS[name].fit(changed_after(examples, UNTIL), UNTIL).to_bytes() == kept  # nothing known later is in it


def test_another_seed_is_another_model(learnt, examples):
    for name in ("boosted_trees", "random_forest"):
        assert MODELS[name].fit(examples, UNTIL, seed=1).to_bytes() != learnt[name].to_bytes()


def test_plain_trees_say_what_scikit_learn_says(examples, later):
    """Learnt again beside it: boosting by its own prediction, the forest by hand from its leaves, each before calibration."""
    model = BoostedTrees(trees=15, least_in_leaf=20, levels=(0.1, 0.5))
    found = lesson(examples, UNTIL, model.framing, model.learning)
    rows, held = found.rows(examples.names), found.is_held
    fitted = model.fit(examples, UNTIL)
    by_scikit = [
        HistGradientBoostingRegressor(
            loss="quantile", quantile=level, max_iter=15, learning_rate=0.06, max_leaf_nodes=16, min_samples_leaf=20,
            max_features=0.4, l2_regularization=2.0, max_bins=127, early_stopping=False, random_state=0,
        ).fit(rows[~held], found.learnt[~held]).predict(later.features)
        for level in model.levels
    ]  # fmt: skip
    ours = np.column_stack([each.predict(later.features) for each in fitted.trees])
    np.testing.assert_allclose(ours, np.column_stack(by_scikit), rtol=0, atol=1e-9)

    wood = Forest(trees=5)
    forest = RandomForestRegressor(
        n_estimators=5,
        max_leaf_nodes=64,
        min_samples_leaf=20,
        max_features=0.33,
        max_samples=0.3,
        random_state=0,
        n_jobs=1,
    ).fit(rows[~held], found.learnt[~held])
    learnt_leaves, asked_leaves = forest.apply(rows[~held]), forest.apply(later.features[:50])
    by_hand = [
        np.mean(
            [np.quantile(found.learnt[~held][learnt_leaves[:, t] == leaf], LEVELS) for t, leaf in enumerate(leaves)], 0
        )
        for leaves in asked_leaves
    ]
    np.testing.assert_allclose(wood.fit(examples, UNTIL).trees[0].predict(later.features[:50]), by_hand, atol=1e-9)


def test_neither_scikit_learn_nor_scipy_is_needed_to_predict(learnt, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(learnt["random_forest"].to_bytes())
    code = """
import sys
from hcp_pipelines.forecasting.learnable import files
from hcp_pipelines.forecasting.model_file import digest_of
from tests.support.learnable import examples_of
from pathlib import Path
kept = Path(sys.argv[1]).read_bytes()
examples = examples_of(days=60)
model = files.read(kept, digest_of(kept))
asked = examples.only(examples.asked_us >= model.trained_until.timestamp() * 1e6)
assert model.predict(asked).shape[0] == len(asked) > 100
print(sorted({"sklearn", "scipy", "dagster", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hindsight_and_missing_features_are_refused(learnt, examples, later):
    model = learnt["boosted_trees"]
    with pytest.raises(TrainedTooLateError, match="model boosted_trees was trained until 2024-04-20T00:00Z"):
        model.predict(examples)
    lacking = replace(later, names=("drive", "other", "hour", "ahead_h"))
    with pytest.raises(ConfigError, match="features that the model reads are missing: last"):
        model.predict(lacking)
    with pytest.raises(ConfigError, match="missing: last"):
        learnt["naive"].predict(lacking)
    assert len(model.predict(later.only(np.zeros(len(later), dtype=bool)))) == 0


def test_columns_in_another_order_say_the_same(learnt, later):
    order = [2, 0, 3, 1]
    other = replace(later, features=later.features[:, order], names=tuple(later.names[n] for n in order))
    for model in learnt.values():
        assert model.predict(other).tobytes() == model.predict(later).tobytes()


def test_what_is_not_known_is_said_to_be_unknown_and_is_not_learnt_from(examples, learnt, later):
    gap = later.naive.copy()
    gap[::3] = np.nan
    found = learnt["soft_trees"].predict(replace(later, naive=gap))
    assert np.isnan(found[::3]).all()
    assert np.isfinite(found[1::3]).all()
    holes = examples.target.copy()
    holes[::5] = np.nan
    told = MODELS["seasonal_naive"].fit(replace(examples, target=holes), UNTIL).describe()
    assert told["rows"] == pytest.approx(0.8 * learnt["seasonal_naive"].describe()["rows"], rel=0.02)


def test_too_little_history_is_refused_with_what_is_needed(examples):
    with pytest.raises(
        TooShortError, match="8 days with a known outcome before 2024-03-11T00:00Z: at least 28 are needed"
    ):
        BoostedTrees().fit(examples, day(10))
    with pytest.raises(TooShortError, match="0 days with a known outcome"):
        SeasonalNaive().fit(examples, day(0))
    with pytest.raises(TooShortError, match="none of the 4 features is known"):
        BoostedTrees().fit(replace(examples, features=np.full_like(examples.features, np.nan)), UNTIL)
    assumed = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    model = SeasonalNaive(assumed=assumed).fit(examples, day(0))
    told = model.describe()
    assert told["is_assumed"]
    assert "0 days" in told["why"]
    few = examples.only(np.arange(5))
    assert (model.predict(few) - few.naive[:, None]).tolist() == pytest.approx(np.tile(assumed, (5, 1)))


def test_bounds_hold_and_scales_carry_over(examples, later):
    bounded = Framing(lowest=0.9, highest=1.1)
    scaled = [replace(each, scale=np.full(len(each), 10.0)) for each in (examples, later)]
    found = SeasonalNaive(bounded).fit(scaled[0], UNTIL).predict(scaled[1])
    assert (found.min(), found.max()) == (9.0, 11.0)
    double = [replace(e, target=2 * e.target, naive=2 * e.naive, scale=2 * e.scale) for e in (examples, later)]
    model = BoostedTrees(trees=5, framing=SOFT)
    one, two = (model.fit(a, UNTIL).predict(b) for a, b in ((examples, later), double))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-9)


def test_a_feature_that_is_no_longer_recorded_is_not_leant_on(examples):
    gone = examples.features.copy()
    gone[examples.asked_us > microseconds(UNTIL - timedelta(days=9)), 0] = np.nan
    model = BoostedTrees(trees=5).fit(replace(examples, features=gone), UNTIL)
    assert model.columns == ("last", "hour", "ahead_h")


def test_a_feature_that_is_known_of_the_days_held_back_alone_is_not_learnt_from(examples):
    new = examples.features.copy()
    new[examples.asked_us < microseconds(UNTIL - timedelta(days=9)), 0] = np.nan
    for model in (BoostedTrees(trees=5), Forest(trees=2)):
        assert model.fit(replace(examples, features=new), UNTIL).columns == ("last", "hour", "ahead_h")


def test_many_examples_are_sampled_the_same_again(examples):
    few = BoostedTrees(trees=5, learning=Learning(most_rows=2000))
    one, two = (few.fit(examples, UNTIL) for _ in range(2))
    assert one.to_bytes() == two.to_bytes()
    assert one.describe()["rows"] == pytest.approx(2000, rel=0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"naive": lambda e: np.where(np.arange(len(e)) == 3, np.inf, e.naive)}, "naive: infinite"),
        ({"target": lambda e: np.where(np.arange(len(e)) == 3, -np.inf, e.target)}, "target: infinite"),
        ({"features": lambda e: np.where(e.features > 2, np.inf, e.features)}, "drive, last, hour, ahead_h: infinite"),
        ({"target": lambda e: e.target[:-1]}, "not one value for each"),
        ({"names": lambda e: ("a", "b", "c")}, "4\\) for"),
        ({"names": lambda e: ("a", "b", "c", "c")}, "each once"),
        ({"entity": lambda e: e.entity + 1}, "entity 2: there are 2"),
    ],
)
def test_poisoned_examples_are_refused(examples, change, says):
    with pytest.raises(ConfigError, match=says):
        replace(examples, **{name: how(examples) for name, how in change.items()})


def about(kept, **words):
    with np.load(io.BytesIO(kept)) as packed:
        found = {name: packed[name] for name in packed.files}
    told = json.dumps(json.loads(found["about"].tobytes()) | words).encode()
    out = io.BytesIO()
    np.savez(out, **(found | {"about": np.frombuffer(told, dtype=np.uint8)}))
    return out.getvalue()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"kind": "pickle"}, "kind 'pickle'"),
        ({"format": 9}, "format 9"),
        ({"horizons_h": [1]}, "this version reads neither"),
        ({"levels": [0.5]}, "shape"),
        ({"levels": [0.9, 0.5, 0.1, 0.2, 0.3, 0.4, 0.6]}, "must rise"),
        ({"columns": ["a"]}, "asks for feature"),
        ({"parts": []}, None),
        ({"parts": [{"trees": 1, "nodes": 0, "values": 1, "baseline": 0}]}, "a part of 1 trees"),
        ({"parts": [{"trees": 20, "nodes": 10**6, "values": 7, "baseline": 0}]}, "can't be read"),
        ({"framing": {"anchor": "naive", "run": "this"}}, "can't be read"),
        ({"trained_until": "soon"}, "can't be read"),
    ],
)
def test_a_file_of_something_else_is_refused(learnt, words, says):
    kept = about(learnt["random_forest"].to_bytes(), **words)
    if says is None:
        files.read(kept, digest_of(kept))  # a forest without trees: its shifts alone
        return
    with pytest.raises(ModelError, match=says):
        files.read(kept, digest_of(kept))


def test_a_blend_is_the_mean_of_its_members_drawn_to_a_feature_and_stands_alone_without_it(learnt, later):
    blend = learnt["blend"]
    members = np.mean([each.predict(later) for each in blend.members], axis=0)
    away = later.feature("last") - members[:, 3]
    taper = np.array([0.1, 0.2, 0.5, 1, 0.5, 0.2, 0.1])  # the feature says nothing of what lies further out
    np.testing.assert_allclose(blend.mean(later), np.sort(members + 0.1 * away[:, None] * taper, axis=1))
    kept = about(blend.to_bytes(), is_tapered=False)
    np.testing.assert_allclose(files.read(kept, digest_of(kept)).mean(later), members + 0.1 * away[:, None])
    moved = blend.predict(later) - blend.mean(later)  # a horizon has its own calibration, and all of its rows the same
    assert len(np.unique(moved[later.ahead_h == 1].round(9), axis=0)) == 1
    np.testing.assert_allclose(moved[:, 3], 0, atol=1e-9)  # the median is said as it is, others are calibrated
    assert np.abs(moved[:, [0, 6]]).min() > 0.001
    gap = later.features.copy()
    gap[:, later.names.index("last")] = np.nan
    unknown = replace(later, features=gap)
    alone = np.mean([each.predict(unknown) for each in blend.members], axis=0)
    np.testing.assert_allclose(blend.mean(unknown), alone)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"format": 9}, "format 9"),
        ({"members": []}, "0 members"),
        ({"share": 2}, "a share of 2"),
        ({"members": ["0" * 64, "0" * 64]}, "not what was promoted"),
        ({"members": ["0" * 64] * 3}, "can't be read"),
        ({"trained_until": "2024-01-01T00:00:00+00:00"}, "members until"),
        ({"toward": None}, None),
    ],
)
def test_a_blend_of_something_else_is_refused(learnt, later, words, says):
    kept = about(learnt["blend"].to_bytes(), **words)
    if says is None:
        with pytest.raises(ConfigError, match="features that the model reads are missing: None"):
            files.read(kept, digest_of(kept)).predict(later)
        return
    with pytest.raises(ModelError, match=says):
        files.read(kept, digest_of(kept))


def test_changed_bytes_are_refused_by_their_digest(learnt):
    kept = learnt["boosted_trees"].to_bytes()
    for place in (len(kept) // 2, len(kept) - 1):
        tampered = kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :]
        with pytest.raises(ModelError, match="not what was promoted"):
            files.read(tampered, digest_of(kept))
    with pytest.raises(ModelError, match="can't be read"):
        files.read(b"", digest_of(b""))


def test_parts_are_calibrated_apart_and_a_file_says_by_what():
    """What an entity errs by is drawn of another width: together one covers too much and the other too little."""
    examples = examples_of(days=120, noise=0.1)
    wild = np.random.default_rng(3).normal(size=len(examples)) * np.where(examples.entity == 1, 8.0, 1.0)
    kind = examples.entity[:, None].astype(np.float32)
    spread = replace(
        examples, target=examples.naive + wild, features=np.hstack([examples.features[:, 2:], kind]),
        names=(*examples.names[2:], "kind"),
    )  # fmt: skip
    asked = spread.only(spread.asked_us >= microseconds(day(110)))

    def held(parted_by):
        fitted = replace(FEW, framing=Framing(), trees=1, parted_by=parted_by).fit(spread, day(110))
        kept = fitted.to_bytes()
        found = files.read(kept, digest_of(kept)).predict(asked)
        inside = (found[:, 1] <= asked.target) & (asked.target <= found[:, 5])
        return [inside[asked.entity == n].mean() for n in (0, 1)]

    assert min(held("")) < 0.7
    assert held("kind") == pytest.approx([0.8, 0.8], abs=0.06)


def test_horizons_are_calibrated_each_by_itself():
    examples = examples_of(days=80, ahead_h=48, noise=0.1)
    far = (examples.wanted_us - examples.asked_us) // HOUR_US >= 24
    wild = np.random.default_rng(3).normal(size=len(examples)) * np.where(far, 8.0, 0.1)
    spread = replace(examples, target=examples.naive + wild)
    found = SeasonalNaive().fit(spread, UNTIL)
    asked = spread.only(spread.asked_us >= microseconds(UNTIL))
    width = found.predict(asked)[:, 5] - found.predict(asked)[:, 1]
    far = (asked.wanted_us - asked.asked_us) // HOUR_US >= 24
    assert width[far].min() > 20 * width[~far].max()
