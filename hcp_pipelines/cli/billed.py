"""What the commands of bills share: whose, and rows as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from hcp_pipelines.operators.users import customer_id_of
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role


def customer_of(settings: Settings, given: str) -> UUID:
    """The id of a customer that is named by it, or by an e-mail address.

    Raises:
        NotThereError: nobody has that address.
    """
    try:
        return UUID(given)
    except ValueError:
        with connect(settings, Role.OPERATOR) as connection:
            return customer_id_of(connection, given)


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
