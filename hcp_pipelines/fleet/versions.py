"""What was in force of a facility file: each applied version, by whom and when. `apply` keeps them, nothing changes them."""

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row
from pydantic import ValidationError

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.document import FacilityFile

_LISTED = """
    select document_version as version, applied_at, applied_by, document_digest as digest from facility_versions
    where facility_id = %s order by document_version desc"""
_DOCUMENT = "select document from facility_versions where facility_id = %s and document_version = %s"


@dataclass(frozen=True, slots=True)
class Version:
    """One applied version; `applied_at` is real time."""

    version: int
    applied_at: datetime
    applied_by: str
    digest: str


def versions_of(connection: psycopg.Connection, facility_id: str) -> list[Version]:
    """A facility's versions, newest first.

    Raises:
        ConfigError: there is no such facility.
    """
    with connection.cursor(row_factory=class_row(Version)) as cursor:
        found = cursor.execute(_LISTED, (facility_id,)).fetchall()
    if not found:
        raise ConfigError(f"no facility {facility_id!r}; `hcp facility list` shows those there are")
    return found


def document_of(connection: psycopg.Connection, facility_id: str, version: int) -> FacilityFile:
    """The file as it was applied.

    Raises:
        ConfigError: there is no such facility or version, or what it said is no facility file any more.
    """
    newest = versions_of(connection, facility_id)[0].version
    row = connection.execute(_DOCUMENT, (facility_id, version)).fetchone()
    if row is None:
        raise ConfigError(
            f"{facility_id} has no version {version}: 1 to {newest}, `hcp facility versions {facility_id}`"
        )
    try:
        return FacilityFile.model_validate(row[0])
    except ValidationError as error:
        raise ConfigError(
            f"version {version} of {facility_id} is no facility file of today: {error.errors()[0]['msg']}"
        ) from error
