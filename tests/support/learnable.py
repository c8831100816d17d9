"""Examples with a known truth, and the leakage tests that every target must pass: a few lines each."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.learnable.protocol import LAST, Examples

START = datetime(2024, 3, 1, tzinfo=UTC)
COLUMNS = ("features", "target", "naive", "scale", "entity", "asked_us", "wanted_us", "known_us")


def examples_of(days=60, entities=2, seed=0, every_h=6, ahead_h=24, noise=1.0):
    """Hours that swing by day and follow a feature, asked every few hours; two days before is the naive forecast."""
    random, hours = np.random.default_rng(seed), 24 * (days + 3)
    drives = random.normal(size=(entities, hours))
    daily = 10 + 3 * np.sin(2 * np.pi * np.arange(hours) / 24)
    truth = daily + 2 * drives + noise * random.normal(size=(entities, hours))
    asked = np.repeat(np.arange(48, 24 * (days + 1), every_h), ahead_h)
    wanted = asked + np.tile(np.arange(ahead_h), len(asked) // ahead_h)
    parts = []
    for entity in range(entities):
        seen = np.column_stack([drives[entity][wanted], truth[entity][asked - 1], wanted % 24, wanted - asked + 1])
        seen[random.random(len(seen)) < 0.05, 0] = np.nan
        parts.append((seen, truth[entity][wanted], np.full(len(wanted), entity), truth[entity][wanted - 48]))
    features, target, entity, naive = (np.concatenate(each) for each in zip(*parts, strict=True))
    start, n = microseconds(START), len(target)
    asked, wanted = np.tile(asked, entities), np.tile(wanted, entities)
    order = np.lexsort((wanted, entity, asked))
    return Examples(
        features.astype(np.float32), ("drive", LAST, "hour", "ahead_h"), target, entity, tuple(f"e{n}" for n in range(entities)),
        start + asked * HOUR_US, start + wanted * HOUR_US, start + (wanted + 1) * HOUR_US, naive, np.ones(n),
    ).only(order)  # fmt: skip


def day(n):
    return START + timedelta(days=n)


def assert_no_look_ahead(target, tables, window, at, groups=()):
    """What was asked until an instant, and what may be learnt then, stays bit by bit, whatever becomes known later.

    Every table's rows with a later `known_at` are shuffled among each other, then blanked, then left out.
    """
    whole = target.examples(tables, window, groups)
    assert (whole.asked_us <= microseconds(at)).any(), (
        "nothing is asked before the instant: the test would show nothing"
    )
    assert any((table["known_at"] > at).any() for table in tables.values()), "nothing becomes known after the instant"
    for change in (shuffled, blanked, left_out):
        other = target.examples({name: change(table, at) for name, table in tables.items()}, window, groups)
        assert_same_as_known(whole, other, at, may_know_less=change is left_out)


def assert_same_as_known(whole, other, at, may_know_less=False):
    """Two sets of examples are equal in what was known at an instant: questions asked by then, outcomes known by then.

    `may_know_less`: the newest outcomes may be unknown in the other, where only a later row says that nothing had changed.
    """
    assert (whole.names, whole.entities) == (other.names, other.entities)
    asked = [each.only(each.asked_us <= microseconds(at)) for each in (whole, other)]
    for name in ("features", "naive", "scale", "entity", "asked_us", "wanted_us"):
        assert getattr(asked[0], name).tobytes() == getattr(asked[1], name).tobytes(), name
    known = [each.known_by(at) for each in (whole, other)]
    if may_know_less:
        known[0] = known[0].only(known[0].known_us <= known[1].known_us.max())
    for name in COLUMNS:
        assert getattr(known[0], name).tobytes() == getattr(known[1], name).tobytes(), name


def shuffled(table, at):
    """The values of rows known later, each column in another order."""
    later = table.filter(pl.col("known_at") > at)
    order = np.random.default_rng(0).permutation(len(later))
    values = [name for name, kind in table.schema.items() if kind.is_numeric()]
    return pl.concat(
        [table.filter(pl.col("known_at") <= at), later.with_columns(pl.col(name).gather(order) for name in values)]
    )


def blanked(table, at):
    """The values of rows known later are null."""
    values = [name for name, kind in table.schema.items() if kind.is_numeric()]
    return table.with_columns(pl.when(pl.col("known_at") <= at).then(pl.col(name)).alias(name) for name in values)


def left_out(table, at):
    """Without the rows known later."""
    return table.filter(pl.col("known_at") <= at)


def changed_after(examples, until, seed=1):
    """The same examples with every outcome that was not known at an instant changed."""
    random = np.random.default_rng(seed)
    later = examples.known_us > microseconds(until)
    return replace(examples, target=np.where(later, random.permutation(examples.target) + 100, examples.target))
