"""What a client of OpenADR 3.1 has of its own: one ven, and the resources behind it. Nobody else sees them.

Source: OpenADR 3.1.0, endpoints `/vens` and `/resources` with the scope of a VEN.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from simulators.openadr.config import MAX_VENS
from simulators.openadr.objects import MAX_RESOURCES, Json, name_in
from simulators.openadr.rest_parts import ProblemError, object_of, one, own, page

MAX_ATTRIBUTES: Final = 100
OwnHandler = Callable[[Request, str], Awaitable[Response]]


class Belongings:
    """By client."""

    def __init__(self, made: Callable[[str], Json]) -> None:
        """`made`: the beginning of a new object of a kind, with its id and stamps."""
        self._made = made
        self._vens: dict[str, Json] = {}
        self._resources: dict[str, dict[str, Json]] = {}

    def handlers(self) -> list[tuple[str, str, OwnHandler]]:
        """Method, path and who answers."""
        return [
            ("GET", "/vens", self._list_vens),
            ("POST", "/vens", self._post_ven),
            ("GET", "/vens/{id}", self._get_ven),
            ("PUT", "/vens/{id}", self._put_ven),
            ("DELETE", "/vens/{id}", self._delete_ven),
            ("GET", "/resources", self._list_resources),
            ("POST", "/resources", self._post_resource),
            ("GET", "/resources/{id}", self._get_resource),
            ("PUT", "/resources/{id}", self._put_resource),
            ("DELETE", "/resources/{id}", self._delete_resource),
        ]

    async def _list_vens(self, request: Request, client: str) -> Response:
        name = request.query_params.get("venName")
        return page(request, [ven for ven in self._ven_of(client) if name in (None, ven["venName"])])

    async def _post_ven(self, request: Request, client: str) -> Response:
        body = await object_of(request)
        if client in self._vens or len(self._vens) >= MAX_VENS:
            raise ProblemError(HTTPStatus.CONFLICT, "this client has a ven already, or there are too many")
        made = self._made("VEN") | _said(body, "venName") | {"clientID": client}
        self._vens[client] = made
        return JSONResponse(made, int(HTTPStatus.CREATED))

    async def _get_ven(self, request: Request, client: str) -> Response:
        return one(request, self._ven_of(client))

    async def _put_ven(self, request: Request, client: str) -> Response:
        body = await object_of(request)
        ven = own(request, self._ven_of(client))
        ven |= _said(body, "venName") | _touched(self._made("VEN"))
        return JSONResponse(ven)

    async def _delete_ven(self, request: Request, client: str) -> Response:
        ven = own(request, self._ven_of(client))
        del self._vens[client]
        self._resources.pop(client, None)
        return JSONResponse(ven)

    async def _list_resources(self, request: Request, client: str) -> Response:
        query, found = request.query_params, self._resources.get(client, {}).values()
        wanted = {name: query[name] for name in ("resourceName", "venID") if name in query}
        return page(request, [each for each in found if all(each[name] == value for name, value in wanted.items())])

    async def _post_resource(self, request: Request, client: str) -> Response:
        body = await object_of(request)
        said, known = _said(body, "resourceName"), self._resources.setdefault(client, {})
        ven_ids = [ven["id"] for ven in self._ven_of(client)]
        if body.get("venID") not in ven_ids:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "venID: a resource is of the client's own ven")
        if len(known) >= MAX_RESOURCES or any(each["resourceName"] == said["resourceName"] for each in known.values()):
            raise ProblemError(HTTPStatus.CONFLICT, "there is a resource of that name, or there are too many")
        made = self._made("RESOURCE") | said | {"venID": ven_ids[0], "clientID": client}
        known[made["id"]] = made
        return JSONResponse(made, int(HTTPStatus.CREATED))

    async def _get_resource(self, request: Request, client: str) -> Response:
        return one(request, list(self._resources.get(client, {}).values()))

    async def _put_resource(self, request: Request, client: str) -> Response:
        body = await object_of(request)
        resource = own(request, list(self._resources.get(client, {}).values()))
        resource |= _said(body, "resourceName") | _touched(self._made("RESOURCE"))
        return JSONResponse(resource)

    async def _delete_resource(self, request: Request, client: str) -> Response:
        resource = own(request, list(self._resources.get(client, {}).values()))
        del self._resources[client][resource["id"]]
        return JSONResponse(resource)

    def _ven_of(self, client: str) -> list[Json]:
        return [self._vens[client]] if client in self._vens else []


def _said(body: Json, name: str) -> Json:
    """What a client may say of an object: its name, and attributes, which are kept and mean nothing here."""
    attributes = body.get("attributes")
    if attributes is not None and not (isinstance(attributes, list) and len(attributes) <= MAX_ATTRIBUTES):
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"attributes: a list of at most {MAX_ATTRIBUTES}")
    return {name: name_in(body, name), "attributes": attributes, "targets": None}


def _touched(made: Json) -> Json:
    return {"modificationDateTime": made["modificationDateTime"]}
