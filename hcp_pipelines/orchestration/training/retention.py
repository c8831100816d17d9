"""Old versions are let go of: their bytes in Postgres, their files in MLflow, what they said in the shadow. Evidence stays.

Never those of the champion, the challenger, who would serve after a rollback, or the newest `HCP_MODELS_KEPT` of a name.
"""

from dataclasses import dataclass, field
from typing import Any

import psycopg

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.training import record
from hcp_pipelines.orchestration.training.shadow import FORECASTS
from hcp_pipelines.orchestration.training.targets import TARGETS
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models

_FORGET = f"delete from lake.{FORECASTS} where name = ? and version in (select unnest(?::integer[]))"  # noqa: S608 - our constant
_COUNT = f"select count(*) from lake.{FORECASTS} where name = ? and version in (select unnest(?::integer[]))"  # noqa: S608


@dataclass(frozen=True)
class LetGo:
    """Of a name: versions whose bytes went, those whose files in MLflow went, rows of the shadow; why files in MLflow stay."""

    versions: list[int] = field(default_factory=list)
    recorded: list[int] = field(default_factory=list)
    shadow_rows: int = 0
    why_not: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to do."""
        return self == LetGo()


def let_go(connection: "psycopg.Connection[Any]", settings: Settings, actor: str) -> dict[str, LetGo]:
    """Of each name what went; names of which nothing did are left out."""
    found = {name: _of(connection, settings, name, actor) for name in models.names(connection)}
    return {name: each for name, each in found.items() if not each.is_nothing}


def _of(connection: "psycopg.Connection[Any]", settings: Settings, name: str, actor: str) -> LetGo:
    versions = models.let_go(connection, name, settings.models_kept, actor)
    gone = models.let_go_of(connection, name)
    if name not in TARGETS or not gone:
        return LetGo(versions)
    rows = _forget(settings, name, gone)
    try:
        recorded, stay = record.let_go(settings, name, gone)
    except StorageError as error:
        return LetGo(versions, shadow_rows=rows, why_not=str(error))
    return LetGo(versions, recorded, rows, "; ".join(f"{version}: {why}" for version, why in stay.items()))


def _forget(settings: Settings, name: str, versions: list[int]) -> int:
    """Delete what versions said in the shadow; how many rows."""
    from hcp_pipelines.storage import lake  # duckdb's import starts threads

    if not has_tables(settings, [FORECASTS]):
        return 0
    with lake.attach(settings) as connection:
        rows = int((connection.execute(_COUNT, [name, versions]).fetchone() or (0,))[0])
        if rows:
            connection.execute(_FORGET, [name, versions])
    return rows
