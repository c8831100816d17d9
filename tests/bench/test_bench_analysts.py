"""The analysts' bench: what it makes of the writers' histogram and of answers; a question that fails is told, not raised."""

import duckdb

from benchmarks.analysts import figures_of, within
from benchmarks.parts.analyst import QUESTIONS, ask
from benchmarks.parts.ingest_stack import Metrics

NAME = "hcp_collector_telemetry_write_seconds_bucket"


def metrics(*counts: int) -> Metrics:
    bounds = ("0.1", "0.5", "2.5", "+Inf")
    return Metrics({f'{NAME}{{le="{bound}"}}': float(n) for bound, n in zip(bounds, counts, strict=True)})


def test_the_bound_within_which_batches_were_written_is_of_those_since():
    before, after = metrics(50, 50, 50, 50), metrics(60, 144, 150, 150)
    assert [within(after, before, share) for share in (0.1, 0.9, 0.95)] == [0.1, 0.5, 2.5]
    assert within(before, before, 0.95) is None


def test_errors_are_counted_and_the_writers_loss_is_a_share():
    writers = {"rows_per_s": 2000.0, "batch_mean_s": 0.1, "batch_p95_s": 0.5}
    answers = [{"ms": 10.0, "error": ""}, {"ms": 30.0, "error": "it broke"}]
    found = figures_of(writers, writers | {"rows_per_s": 1900.0}, answers)
    assert (found["rows_lost_fraction"], found["errors"], found["first_error"]) == (0.05, 1, "it broke")
    assert (found["queries"], found["query_p95_ms"]) == (2, 30.0)


def test_a_question_that_fails_is_told():
    with duckdb.connect() as connection:
        told = ask(connection, next(iter(QUESTIONS)))
    assert told["rows"] == 0
    assert "lake" in str(told["error"])
