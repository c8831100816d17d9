"""Trees as arrays say what scikit-learn says, and a model's file is checked before anything in it is believed."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from threadpoolctl import threadpool_limits

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting import model_file
from hcp_pipelines.forecasting.model_file import Artefact, digest_of
from hcp_pipelines.forecasting.trees import Trees

COLUMNS = 6


def rows_of(random, n, missing):
    rows = random.normal(size=(n, COLUMNS)).astype(np.float32)
    rows[random.random(rows.shape) < missing] = np.nan
    return rows


def bag_of(seed, members=1, **options):
    random = np.random.default_rng(seed)
    rows = rows_of(random, 600, 0.2)
    rows[:, 3] = random.integers(0, 3, 600)  # ties with thresholds; never missing
    came_to = np.nan_to_num(rows[:, 0], nan=2.0) * (rows[:, 3] > 1) + np.isnan(rows[:, 1]) + random.normal(size=600) / 4
    kind = {"max_iter": 8, "max_leaf_nodes": 16, "min_samples_leaf": 8, "max_bins": 32} | options
    with threadpool_limits(1):
        return [HistGradientBoostingRegressor(random_state=n, **kind).fit(rows, came_to) for n in range(members)]


@pytest.fixture(scope="module")
def bag():
    return bag_of(0, members=2)


@pytest.fixture(scope="module")
def artefact(bag):
    names = tuple(f"column_{n}" for n in range(COLUMNS))
    return Artefact("waiting", Trees.of(*bag), names, datetime(2025, 1, 1, tzinfo=UTC), 15, 0, {"points": ["HB_TEST"]})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from([1, 7, 300]))
def test_they_predict_what_scikit_learn_does(bag, seed, missing, n):
    rows = rows_of(np.random.default_rng(seed), n, missing)
    rows[0, 0], rows[-1, 1] = np.inf, -np.inf
    expected = np.mean([each.predict(rows) for each in bag], axis=0)
    np.testing.assert_allclose(Trees.of(*bag).predict(rows), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"max_leaf_nodes": 2},
        {"max_iter": 1},
        {"min_samples_leaf": 500},
        {"max_leaf_nodes": 9},
        {"max_leaf_nodes": 17},
        {"max_leaf_nodes": 64, "min_samples_leaf": 2},
    ],
)
def test_small_trees_and_trees_of_one_leaf_are_trees(options):
    bag = bag_of(1, **options)
    rows = rows_of(np.random.default_rng(2), 200, 0.3)
    expected = np.mean([each.predict(rows) for each in bag], axis=0)
    np.testing.assert_allclose(Trees.of(*bag).predict(rows), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("leaves", [2, 16, 60])
def test_a_forests_trees_predict_its_mean_and_several_values_at_once(leaves):
    random = np.random.default_rng(6)
    rows = rows_of(random, 500, 0.2)
    rows[:, 4] = random.normal(size=500)  # never missing as it is learnt
    came_to = np.nan_to_num(rows[:, 0]) + rows[:, 4] ** 2
    forest = RandomForestRegressor(n_estimators=7, max_leaf_nodes=leaves, random_state=0, n_jobs=1).fit(rows, came_to)
    own = [each.tree_.value.reshape(-1, 1) for each in forest.estimators_]
    found = Trees.of_forest(forest, [np.hstack([each, 2 * each, each - 1]) for each in own])
    asked = rows_of(random, 300, 0.3)
    expected = forest.predict(asked)
    np.testing.assert_allclose(
        found.predict(asked), np.stack([expected, 2 * expected, expected - 1], 1), rtol=0, atol=1e-9
    )


def test_a_threshold_between_two_float32_values_parts_rows_as_before(bag):
    trees, node = Trees.of(bag[0]), bag[0]._predictors[0][0].nodes[0]
    at = np.float32(node["num_threshold"])
    rows = np.zeros((3, COLUMNS), dtype=np.float32)
    rows[:, node["feature_idx"]] = [np.nextafter(at, np.float32(-9)), at, np.nextafter(at, np.float32(9))]
    np.testing.assert_allclose(trees.predict(rows), bag[0].predict(rows), rtol=0, atol=1e-12)


def test_more_leaves_than_bits_are_refused():
    with pytest.raises(ModelError, match="at most 64"):
        Trees.of(*bag_of(3, max_leaf_nodes=80, min_samples_leaf=2))


def test_a_file_gives_the_same_model_and_the_same_bytes(artefact):
    kept = artefact.to_bytes()
    again = Artefact.from_bytes(kept, digest_of(kept))
    rows = rows_of(np.random.default_rng(5), 50, 0.3)
    assert again.trees.predict(rows).tobytes() == artefact.trees.predict(rows).tobytes()
    assert (again.columns, again.trained_until, again.told) == (artefact.columns, artefact.trained_until, artefact.told)
    assert again.to_bytes() == kept == artefact.to_bytes()


def test_changed_bytes_are_refused_by_their_digest(artefact):
    kept = artefact.to_bytes()
    with pytest.raises(ModelError, match="not what was promoted"):
        Artefact.from_bytes(kept[:-1] + bytes([kept[-1] ^ 1]), digest_of(kept))


def changed(kept, **arrays):
    with np.load(io.BytesIO(kept)) as packed:
        found = {name: packed[name] for name in packed.files} | arrays
    out = io.BytesIO()
    np.savez(out, **{name: array for name, array in found.items() if array is not None})
    return out.getvalue()


def spoilt(kept):
    """Packed, and spoilt in the middle of what is packed."""
    with np.load(io.BytesIO(kept)) as packed:
        found = {name: packed[name] for name in packed.files}
    out = io.BytesIO()
    np.savez_compressed(out, **found)
    middle, packed_bytes = len(out.getvalue()) // 2, bytearray(out.getvalue())
    packed_bytes[middle : middle + 64] = b"\xff" * 64
    return bytes(packed_bytes)


def nested(kept):
    return changed(kept, about=np.frombuffer(b"[" * 100_000, dtype=np.uint8))


def about(kept, **words):
    with np.load(io.BytesIO(kept)) as packed:
        found = json.loads(packed["about"].tobytes()) | words
    return changed(kept, about=np.frombuffer(json.dumps(found).encode(), dtype=np.uint8))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda k, t: b"", "BadZipFile"),
        (lambda k, t: k[: len(k) // 2], "can't be read"),
        (lambda k, t: spoilt(k), "can't be read"),
        (lambda k, t: nested(k), "can't be read"),
        (lambda k, t: changed(k, value=None), "can't be read"),
        (lambda k, t: changed(k, value=t.value.astype("<f4")), "value is float32"),
        (lambda k, t: changed(k, value=t.value[:-1]), "values"),
        (lambda k, t: changed(k, value=t.value * np.nan), "not a number"),
        (lambda k, t: changed(k, feature=t.feature + np.int16(COLUMNS)), "asks for feature"),
        (lambda k, t: changed(k, left=np.zeros_like(t.left)), "not after it"),
        (lambda k, t: changed(k, right=np.where(t.right > 0, t.left, t.right)), "no tree, or to two"),
        (lambda k, t: changed(k, first_node=t.first_node + np.int32(1)), "rising nodes"),
        (lambda k, t: changed(k, value=np.array([{}], dtype=object)), "can't be read"),  # a pickle: not loaded
        (lambda k, t: about(k, format=9), "has format 9"),
        (lambda k, t: about(k, baseline="nan"), "not a number"),
        (lambda k, t: about(k, columns=None), "can't be read"),
        (lambda k, t: about(k, trained_until="some day"), "can't be read"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(artefact, change, says):
    kept = change(artefact.to_bytes(), artefact.trees)
    with pytest.raises(ModelError, match=says):
        Artefact.from_bytes(kept, digest_of(kept))


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 31,), (-1,)])
def test_an_array_that_claims_more_values_than_it_has_is_refused_unread(shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    kept = io.BytesIO()
    with ZipFile(kept, "w") as packed:
        packed.writestr("about.npy", header.getvalue())
    with pytest.raises(ModelError, match="says it has shape"):
        Artefact.from_bytes(kept.getvalue(), digest_of(kept.getvalue()))


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_unread(monkeypatch):
    monkeypatch.setattr(model_file, "MOST_BYTES", 100_000)
    kept = io.BytesIO()
    with ZipFile(kept, "w", ZIP_DEFLATED) as packed:
        packed.writestr("value.npy", bytes(1_000_000))
    assert len(kept.getvalue()) < 10_000
    with pytest.raises(ModelError, match="at most 100,000"):
        Artefact.from_bytes(kept.getvalue(), digest_of(kept.getvalue()))


def test_other_columns_than_were_learnt_from_are_refused(artefact):
    with pytest.raises(ModelError, match="6 features"):
        artefact.trees.predict(np.zeros((1, COLUMNS + 1), dtype=np.float32))
    with pytest.raises(ModelError, match="asks for feature"):
        replace(artefact.trees, features=1)


def test_reading_and_asking_a_model_needs_no_scikit_learn():
    code = "import sys, hcp_pipelines.forecasting.model_file, hcp_pipelines.optimizer.waiting; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
