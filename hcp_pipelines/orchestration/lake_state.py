"""What tables and views the lake has, read from its catalogue in Postgres: no DuckDB is attached for that."""

from collections.abc import Iterable, Mapping, Sequence

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role

RELATIONS_SQL = """
select s.schema_name || '.' || t.table_name from ducklake_table t
join ducklake_schema s using (schema_id) where t.end_snapshot is null and s.end_snapshot is null
union all
select s.schema_name || '.' || v.view_name from ducklake_view v
join ducklake_schema s using (schema_id) where v.end_snapshot is null and s.end_snapshot is null
"""

COLUMNS_SQL = """
select s.schema_name || '.' || t.table_name, c.column_name from ducklake_column c
join ducklake_table t using (table_id) join ducklake_schema s using (schema_id)
where c.end_snapshot is null and t.end_snapshot is null and s.end_snapshot is null
"""


def relations(settings: Settings) -> frozenset[str]:
    """All tables and views (`schema.name`) that are in the lake now."""
    with connect(settings, Role.LAKE_READER, Database.LAKE) as connection:
        return frozenset(row[0] for row in connection.execute(RELATIONS_SQL).fetchall())


def has_tables(settings: Settings, names: Sequence[str]) -> bool:
    """Whether all of these (`schema.name`) are in the lake now."""
    return relations(settings).issuperset(names)


def has_columns(settings: Settings, wanted: Mapping[str, Iterable[str]]) -> bool:
    """Whether tables (`schema.name`) have all columns that are wanted of them now: a lake that is older may lack some."""
    with connect(settings, Role.LAKE_READER, Database.LAKE) as connection:
        there = set(connection.execute(COLUMNS_SQL).fetchall())
    return all((table, name) in there for table, names in wanted.items() for name in names)
