"""The columns of Postgres' tables as `schema.sql` declares them, for who shows them without a database at hand."""

import re
from functools import cache
from importlib import resources

_STATEMENT = re.compile(r"^(create|alter) table (\w+)\b(.*?);[ \t]*$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*")
_NO_COLUMN = "primary|unique|check|foreign|exclude|constraint"
_NAME_AND_TYPE = r"\"?(\w+)\"? ([a-z]+\d?(?: precision)?(?:\[\])?)"
_CREATED = re.compile(rf"^ {{4}}(?!(?:{_NO_COLUMN})\b){_NAME_AND_TYPE}", re.MULTILINE)
_ADDED = re.compile(rf"\badd column {_NAME_AND_TYPE}")
_DROPPED = re.compile(r"\bdrop column (\w+)")


@cache
def declared_tables() -> dict[str, dict[str, str]]:
    """Type by column, in the order of the columns, of every table."""
    text = _COMMENT.sub("", resources.files("hcp_pipelines.storage").joinpath("schema.sql").read_text())
    tables: dict[str, dict[str, str]] = {}
    for how, name, body in (found.groups() for found in _STATEMENT.finditer(text)):
        columns = tables.setdefault(name, {})
        columns.update((_CREATED if how == "create" else _ADDED).findall(body))
        for column in _DROPPED.findall(body):
            columns.pop(column)
    return tables
