"""Errors as `application/problem+json` (RFC 9457): one shape for all, those of validation included."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from psycopg import DataError, InterfaceError, OperationalError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from hcp_pipelines.api.wording import where_and_what
from hcp_pipelines.domain.errors import ConfigError, NotPermittedError, NotThereError, StorageError, TakenError
from hcp_pipelines.workloads.errors import (
    AllocationError,
    LeaseLostError,
    QueueError,
    QueueFullError,
    QuotaError,
    TransitionError,
    UnknownWorkloadError,
)

MEDIA_TYPE = "application/problem+json"
AWAY_RETRY_S = 2
QUOTA_RETRY_S = 30  # work has to end first
TITLES = {
    400: "The request is not as it must be",
    401: "Who you are is not known",
    403: "You may not do this",
    404: "There is no such thing",
    405: "Not with this method",
    408: "The request took too long to arrive",
    409: "It conflicts with what is there",
    413: "The request is too large",
    415: "Not in this format",
    422: "The request can't be carried out",
    429: "Too many requests",
    500: "A defect of ours",
    503: "Not now",
    504: "It took too long",
}


class FieldProblem(BaseModel):
    """What is wrong with one part of a request."""

    where: str = Field(examples=["body.gpu_count"])
    message: str = Field(examples=["Input should be greater than 0"])


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(default="about:blank")
    title: str = Field(examples=["There is no such thing"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no facility 'hou-9': GET /api/v1/facilities lists those there are"])
    instance: str = Field(examples=["/api/v1/facilities/hou-9"])
    request_id: str = Field(default="", examples=["6f1d2c3b4a596877"])
    errors: list[FieldProblem] = []


class ProblemError(Exception):
    """To be answered as it is."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def not_found(what: str, remedy: str) -> ProblemError:
    """404 with the thing and where those that there are can be seen."""
    return ProblemError(404, f"no {what}: {remedy}")


def problem_body(
    status: int, detail: str, path: str, request_id: str, errors: Sequence[FieldProblem] = ()
) -> dict[str, Any]:
    """The JSON of a problem."""
    title = TITLES.get(status, "Refused")
    body = ProblemBody(
        title=title, status=status, detail=detail, instance=path, request_id=request_id, errors=list(errors)
    )
    return body.model_dump()


def answer(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response of a problem."""
    body = problem_body(status, detail, request.url.path, request_id_of(request))
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def request_id_of(request: Request) -> str:
    """The id that the frame gave the request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def install(app: FastAPI) -> None:
    """Have every error answered in this shape."""
    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(ConfigError, _of_wrong)
    app.add_exception_handler(NotThereError, _of_wrong)
    app.add_exception_handler(TakenError, _of_wrong)
    app.add_exception_handler(NotPermittedError, _of_forbidden)
    app.add_exception_handler(QueueError, _of_queue)
    for kind in (StorageError, OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, _of_storage)
    app.add_exception_handler(DataError, _of_value)
    app.add_exception_handler(Exception, _of_defect)


async def _of_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return answer(request, error.status, error.detail, error.headers)


async def _of_validation(request: Request, error: Exception) -> JSONResponse:
    """400, not FastAPI's 422: what the requirements ask for (EC-25, WL-33). Values are left out: they may be passwords."""
    assert isinstance(error, RequestValidationError)
    told = (where_and_what(one, request) for one in error.errors()[:20])
    wrong = [FieldProblem(where=where, message=message) for where, message in told]
    detail = "; ".join(f"{one.where}: {one.message}" for one in wrong[:3])
    body = problem_body(400, detail, request.url.path, request_id_of(request), wrong)
    return JSONResponse(body, 400, None, MEDIA_TYPE)


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = {"Allow": error.headers["Allow"]} if error.headers and "Allow" in error.headers else None
    return answer(request, error.status_code, _said(error, request), headers)


def _said(error: HTTPException, request: Request) -> str:
    path = request.url.path
    if error.status_code == 404:
        return f"nothing at {path}: /openapi.json lists what there is"
    if error.status_code == 405:
        return f"{path} takes {(error.headers or {}).get('Allow', 'other methods')}"
    return "the body is not valid JSON" if error.status_code == 400 else error.detail


async def _of_wrong(request: Request, error: Exception) -> JSONResponse:
    status = 404 if isinstance(error, NotThereError) else 409 if isinstance(error, TakenError) else 422
    return answer(request, status, str(error))


async def _of_forbidden(request: Request, error: Exception) -> JSONResponse:
    return answer(request, 403, str(error))


async def _of_queue(request: Request, error: Exception) -> JSONResponse:
    """What the queue refuses, by what the caller will do."""
    if isinstance(error, QueueFullError):
        return answer(request, 503, str(error), {"Retry-After": str(error.retry_after_s)})
    if isinstance(error, QuotaError):
        return answer(request, 429, str(error), {"Retry-After": str(QUOTA_RETRY_S)})
    is_over = isinstance(error, TransitionError | AllocationError | LeaseLostError)
    status = 404 if isinstance(error, UnknownWorkloadError) else 409 if is_over else 422
    return answer(request, status, str(error))


async def _of_storage(request: Request, error: Exception) -> JSONResponse:
    _log(request).warning("storage", error=str(error).strip())
    if isinstance(error, OperationalError | InterfaceError):
        request.app.state.api.let_go_of_dead()
    return answer(request, 503, "the database does not answer at the moment", {"Retry-After": str(AWAY_RETRY_S)})


async def _of_value(request: Request, error: Exception) -> JSONResponse:
    """What Postgres can't keep in a column's type, such as NUL in a text."""
    _log(request).warning("refused by the database", error=str(error).strip())
    return answer(request, 400, "a value is outside what can be kept")


async def _of_defect(request: Request, _: Exception) -> JSONResponse:
    """The frame logs the traceback; outside it is nobody's business."""
    return answer(request, 500, "the log of the API has it under this request_id")


def _log(request: Request) -> Any:
    return request.app.state.api.log
