"""The bench of writers: rows that are missing, doubled or of an earlier time are each told, and none where all is right."""

import pytest

from benchmarks.parts.lake_writer import KINDS, write
from benchmarks.writers import TABLE, differing
from hcp_pipelines.storage import lake

TIMES = 4


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("select 1", 0),
        ("delete from lake.{0} where writer = 'collector' and n = 2", 1),
        ("insert into lake.{0} select * from lake.{0} where writer = 'tick_run' and n in (0, 1)", 2),
        ("update lake.{0} set n = 0 where writer = 'backfill' and n = 3", 2),
    ],
)
def test_what_is_not_as_written_is_counted(postgres, statement, wrong):
    table = f"{TABLE}_{wrong}_{statement.split()[0]}"  # the lake knows for ever which batches a table has had
    for kind in KINDS:
        write(postgres, table, kind, TIMES)
    with lake.attach(postgres) as connection:
        connection.execute(statement.format(table))
    assert differing(postgres, TIMES, table) == wrong
    with lake.attach(postgres) as connection:
        connection.execute(f"drop table lake.{table}")
