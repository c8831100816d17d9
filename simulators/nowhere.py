"""What each market service says of a path that it doesn't have, in its own words where these are known."""

from collections.abc import Callable, Mapping
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from simulators.service_plan import ServiceName
from simulators.services import service_of

_SAID: Final[Mapping[ServiceName, tuple[int, Callable[[str], object]]]] = {
    "ercot": (404, lambda _: {"statusCode": 404, "message": "Resource not found"}),
    "coinbase": (404, lambda _: {"message": "NotFound"}),
    "kraken": (200, lambda _: {"error": ["EGeneral:Unknown method"]}),
    "gemini": (
        404,
        lambda path: {
            "result": "error",
            "reason": "EndpointNotFound",
            "message": f"API entry point `{path[:60]}` not found",
        },
    ),
    "open_meteo": (404, lambda _: {"error": True, "reason": "Not Found"}),
    "primeintellect": (404, lambda _: {"detail": "Not Found"}),
    "azure": (404, lambda _: {"Error": {"Code": "NotFound", "Message": "The resource is not there."}}),
}


def not_found(request: Request, error: Exception) -> Response:
    """The reply to a request of a path that there is not, or by a method that it doesn't take."""
    assert isinstance(error, HTTPException)
    service = service_of(request.url.path)
    if service is None or service not in _SAID:
        return Response(error.detail, status_code=error.status_code, headers=error.headers, media_type="text/plain")
    status, body = _SAID[service]
    return Response(orjson.dumps(body(request.url.path)), status_code=status, media_type="application/json")
