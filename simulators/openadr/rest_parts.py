"""What all handlers of OpenADR 3.1 share: errors, pages, single objects, the body of a request."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from simulators.openadr.objects import Json
from simulators.openadr.reading import read_body

MAX_PAGE: Final = 50


class ProblemError(Exception):
    """An answer other than the one asked for."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def page(request: Request, objects: list[Json]) -> Response:
    """`limit` objects from `skip` on."""
    skip, limit = _number(request.query_params, "skip", 0), _number(request.query_params, "limit", MAX_PAGE)
    if limit > MAX_PAGE:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"limit is at most {MAX_PAGE}")
    return JSONResponse(objects[skip : skip + limit])


def one(request: Request, objects: list[Json]) -> Response:
    """The one that the path names, as a reply.

    Raises:
        ProblemError: there is none of that id.
    """
    return JSONResponse(own(request, objects))


def own(request: Request, objects: list[Json]) -> Json:
    """The one that the path names.

    Raises:
        ProblemError: there is none of that id.
    """
    for each in objects:
        if each["id"] == request.path_params["id"]:
            return each
    raise ProblemError(HTTPStatus.NOT_FOUND, "no object of that id")


def _number(query: Mapping[str, str], key: str, default: int) -> int:
    text = query.get(key, str(default))
    if not text.isdecimal() or len(text) > 9:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"{key} is a number, 0 or more")
    return int(text)


async def object_of(request: Request) -> Json:
    """The JSON object of a body.

    Raises:
        ProblemError: it is none, or none that could be answered with again. TooLargeError: it is too long.
    """
    try:
        body: Any = json.loads(await read_body(request))
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is to be a JSON object")
    return body
