"""How a problem of validation is put: what is wrong, and what would be right. Values are left out: they may be passwords."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from hcp_pipelines.domain.spelling import nearest


def where_and_what(error: Mapping[str, Any], request: Request) -> tuple[str, str]:
    """The part of the request, and what is wrong with it, of one of pydantic's or FastAPI's errors."""
    place, kind = tuple(error["loc"]), error["type"]
    where, what = ".".join(map(str, place)), str(error["msg"]).removeprefix("Value error, ")
    if kind == "json_invalid":  # its place is the character's number
        return str(place[0]), f"it is not JSON: {error['ctx']['error']}, at character {place[1]}"
    if place == ("body",) and not _is_json(request):
        return where, "a JSON object is taken, with `Content-Type: application/json`"
    if kind == "extra_forbidden" and len(place) == 2 and place[0] == "body":
        return where, f"there is no such field; {meant(str(place[1]), _fields_of(request))}"
    return where, what


def meant(name: str, known: Iterable[str]) -> str:
    """What was meant, as far as it can be told, and what there is.

    >>> meant("stat", {"status", "limit"})
    'is status meant? There are limit, status'
    >>> meant("x", {"limit"}), meant("x", ())
    ('there are limit', 'there are none')
    """
    there = ", ".join(sorted(known)) or "none"
    close = nearest(name, known)
    return f"is {close} meant? There are {there}" if close else f"there are {there}"


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _fields_of(request: Request) -> Iterable[str]:
    """The fields of the endpoint's body."""
    field = getattr(request.scope.get("route"), "body_field", None)
    shape = None if field is None else field.field_info.annotation
    return shape.model_fields if isinstance(shape, type) and issubclass(shape, BaseModel) else ()
