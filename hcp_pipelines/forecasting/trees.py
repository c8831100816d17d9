"""Boosted trees as plain arrays, evaluated in numpy alone: what a learnt model is where scikit-learn must not be imported.

Learning is scikit-learn's, elsewhere; as a file: `model_file.py`. Rows are float32, so that thresholds may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ModelError

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Masks = npt.NDArray[np.unsignedinteger[Any]]

MOST_LEAVES = 64  # of one tree: a bit each
FEW_LEAVES = 16  # masks of so many are a quarter as long
MOST_NODES = 500_000  # of all trees: 4,000 of 31 nodes each are a quarter of it
LEAF = -1  # in place of a child
ROWS_AT_ONCE = 16_384  # their columns stay in the cache
CELLS_AT_ONCE = 1 << 20  # rows times nodes


class Regressor(Protocol):
    """What predicts: `Trees`, or scikit-learn's own."""

    def predict(self, rows: Matrix) -> Floats:
        """A value a row."""
        ...


@dataclass(frozen=True)
class Trees:
    """A sum of regression trees and a baseline. Nodes of all trees stand one after the other, each tree's root first.

    A row goes left where its feature is at most the threshold, and where the feature is missing (NaN) if the node says so.
    `left` and `right` are nodes, `LEAF` of leaves; `value` counts at leaves alone. It may be `[node, k]`: then k values are
    predicted at once, by the same splits.
    """

    features: int
    baseline: float
    first_node: npt.NDArray[np.int32]  # a value a tree
    feature: npt.NDArray[np.int16]  # a value a node, as all that follow
    threshold: npt.NDArray[np.float32]
    missing_left: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Floats

    def __post_init__(self) -> None:
        """Refuse what no tree can be.

        Raises:
            ModelError: arrays that don't fit each other, children that are none, a tree of more than 64 leaves.
        """
        nodes, firsts = len(self.feature), self.first_node
        by_node = (self.threshold, self.missing_left, self.left, self.right, self.value)
        if not 0 < nodes <= MOST_NODES or any(len(column) != nodes for column in by_node):
            raise ModelError(f"{nodes} nodes with {[len(c) for c in by_node]} values: 1 to {MOST_NODES}, as many each")
        if not len(firsts) or firsts[0] != 0 or (np.diff(firsts) <= 0).any() or firsts[-1] >= nodes:
            raise ModelError(f"{len(firsts)} trees don't start at rising nodes from 0 on")
        if not np.isfinite(self.baseline) or not np.isfinite(self.value).all() or np.isnan(self.threshold).any():
            raise ModelError("a leaf, a threshold or the baseline is not a number")
        if (self.feature < 0).any() or (self.feature >= self.features).any():
            raise ModelError(f"a node asks for feature {self.feature.max()}: there are {self.features}")
        self._refuse_loops()
        _ = self._walk  # refuses trees of too many leaves

    def _refuse_loops(self) -> None:
        """Every child comes after its node and inside its tree, and every node but the roots is the child of one."""
        node, is_leaf = np.arange(len(self.feature), dtype=np.int64), self.left == LEAF
        ends = np.r_[self.first_node[1:], len(node)][self._tree_of]
        for child in (self.left, self.right):
            if ((child == LEAF) != is_leaf).any() or (~is_leaf & ((child <= node) | (child >= ends))).any():
                raise ModelError("a node's child is not after it in its own tree")
        children = np.sort(np.r_[self.left[~is_leaf], self.right[~is_leaf], self.first_node])
        if not np.array_equal(children, node):
            raise ModelError("a node belongs to no tree, or to two")

    @property
    def _tree_of(self) -> Ints:
        return np.searchsorted(self.first_node, np.arange(len(self.feature)), side="right") - 1

    @cached_property
    def _walk(self) -> "_Walk":
        return _Walk.of(self)

    def predict(self, rows: Matrix) -> Floats:
        """The trees' sum for each row of `[rows, features]`; `[row, k]` where leaves have k values.

        Raises:
            ModelError: another number of features.
        """
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ModelError(f"rows of shape {rows.shape}: the model was learnt from {self.features} features")
        predicted = np.full((len(rows), *self.value.shape[1:]), self.baseline)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            self._walk.add_to(predicted[part], np.ascontiguousarray(rows[part].T, dtype=np.float32))
        return predicted

    @classmethod
    def of(cls, *bag: Any) -> Self:
        """The mean of fitted HistGradientBoostingRegressors, each of one output, without categories.

        Their thresholds are float64; the largest float32 that is not above one parts float32 rows the same way.
        """
        nodes = [iteration[0].nodes for each in bag for iteration in each._predictors]
        first = np.cumsum([0, *(len(tree) for tree in nodes)])
        stacked, offset = np.concatenate(nodes), np.repeat(first[:-1], np.diff(first))
        is_leaf = stacked["is_leaf"].astype(bool)
        left, right = (np.where(is_leaf, LEAF, stacked[side] + offset).astype(np.int32) for side in ("left", "right"))
        return cls(
            features=int(bag[0].n_features_in_),
            baseline=float(np.mean([np.ravel(each._baseline_prediction)[0] for each in bag])),
            first_node=first[:-1].astype(np.int32),
            feature=np.where(is_leaf, 0, stacked["feature_idx"]).astype(np.int16),
            threshold=np.where(is_leaf, np.float32(0), _not_above(stacked["num_threshold"])),
            missing_left=stacked["missing_go_to_left"].astype(bool) & ~is_leaf,
            left=left,
            right=right,
            value=np.where(is_leaf, stacked["value"], 0.0) / len(bag),
        )

    @classmethod
    def of_forest(cls, forest: Any, values: Sequence[Floats]) -> Self:
        """A fitted RandomForestRegressor's trees with other values, of each tree `[node, k]`: the mean of its trees."""
        grown = [each.tree_ for each in forest.estimators_]
        first = np.cumsum([0, *(tree.node_count for tree in grown)])
        offset = np.repeat(first[:-1], np.diff(first))

        def every(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(tree, name) for tree in grown])

        is_leaf = every("children_left") < 0
        left, right = (
            np.where(is_leaf, LEAF, every(f"children_{side}") + offset).astype(np.int32) for side in ("left", "right")
        )
        return cls(
            features=int(forest.n_features_in_),
            baseline=0.0,
            first_node=first[:-1].astype(np.int32),
            feature=np.where(is_leaf, 0, every("feature")).astype(np.int16),
            threshold=np.where(is_leaf, np.float32(0), _not_above(every("threshold"))),
            missing_left=every("missing_go_to_left").astype(bool) & ~is_leaf,
            left=left,
            right=right,
            value=np.where(is_leaf[:, None], np.concatenate(values), 0.0) / len(grown),
        )


def _not_above(thresholds: Floats) -> npt.NDArray[np.float32]:
    """The largest float32 values that are not above."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


@dataclass(frozen=True)
class _Walk:
    """The same trees as bits: a leaf is the lowest bit that no node to whose left it stands has struck out.

    No row walks down a tree, so that all rows and nodes are done at once.
    Source: C. Lucchese et al., QuickScorer, SIGIR 2015.
    """

    features: int
    splits: Ints  # first split of each tree
    column: Ints  # a value a split: its feature, further `features` on where the missing goes left
    threshold: npt.NDArray[np.float32]
    strikes_out: Masks  # the leaves to its left, as zeros
    leaves: Floats  # [tree, leaf], or [tree, leaf, k]

    @classmethod
    def of(cls, trees: Trees) -> Self:
        """The bits of trees.

        Raises:
            ModelError: a tree of more than 64 leaves.
        """
        is_leaf, tree = trees.left == LEAF, trees._tree_of
        leaves, place = _leaves_below(trees, is_leaf)
        if leaves.max() > MOST_LEAVES:
            raise ModelError(f"a tree of {leaves.max()} leaves: at most {MOST_LEAVES}")
        kind: type[np.unsignedinteger[Any]]
        kind, bits = (np.uint16, FEW_LEAVES) if leaves.max() <= FEW_LEAVES else (np.uint64, MOST_LEAVES)
        table = np.zeros((len(trees.first_node), bits, *trees.value.shape[1:]))
        table[tree[is_leaf], place[is_leaf]] = trees.value[is_leaf]
        # a tree of one leaf has a split too, that strikes nothing out
        split = np.flatnonzero(~is_leaf | np.isin(np.arange(len(tree)), trees.first_node))
        to_the_left = np.where(is_leaf[split], 0, leaves[trees.left[split]]).astype(np.uint64)
        struck = ((np.uint64(1) << to_the_left) - np.uint64(1)) << place[split].astype(np.uint64)
        return cls(
            features=trees.features,
            splits=np.searchsorted(split, trees.first_node),
            column=trees.feature[split] + trees.features * trees.missing_left[split].astype(np.int64),
            threshold=trees.threshold[split],
            strikes_out=(~struck).astype(kind),  # the lowest bits
            leaves=table,
        )

    def add_to(self, predicted: Floats, columns: Matrix) -> None:
        """Add the trees' sum of `[features, rows]` to the predictions of those rows."""
        missing_left = np.where(np.isnan(columns), np.float32(-np.inf), columns)
        columns = np.concatenate([columns, missing_left])
        rows, ends = columns.shape[1], np.r_[self.splits[1:], len(self.column)]
        trees_at_once, nothing = max(1, CELLS_AT_ONCE // (rows * self.leaves.shape[1])), ~self.strikes_out.dtype.type(0)
        for tree in range(0, len(self.splits), trees_at_once):
            trees = slice(tree, tree + trees_at_once)
            first, end = int(self.splits[trees][0]), int(ends[trees][-1])
            stays = columns[self.column[first:end]] <= self.threshold[first:end, None]
            left = np.where(stays, nothing, self.strikes_out[first:end, None])
            found = _lowest_bit(np.bitwise_and.reduceat(left, self.splits[trees] - first, axis=0))
            predicted += self.leaves[trees][np.arange(len(found))[:, None], found].sum(axis=0)


def _leaves_below(trees: Trees, is_leaf: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """By node: how many leaves it has, and how many stand to the left of all of them. Level by level."""
    count, place = is_leaf.astype(np.int64), np.zeros(len(is_leaf), dtype=np.int64)
    split = np.flatnonzero(~is_leaf)
    levels = min(MOST_LEAVES, int(np.diff(np.r_[trees.first_node, len(is_leaf)]).max()))
    for _ in range(levels):
        count[split] = count[trees.left[split]] + count[trees.right[split]]
    for _ in range(levels):
        place[trees.left[split]] = place[split]
        place[trees.right[split]] = place[split] + count[trees.left[split]]
    return count, place


def _lowest_bit(masks: Masks) -> Ints:
    """Which bit is the lowest that is set, from 0 on; powers of two are exact as floats."""
    alone = (masks & (~masks + masks.dtype.type(1))).astype(np.float32)
    return np.frexp(alone)[1].astype(np.int64) - 1
