"""The HTTP API: Jobs of one namespace (list, watch, get, create, merge patch, delete), their pods and Nodes (list, watch).

Every call needs a bearer token that is valid now. Refusals are Status objects. What may go wrong stands in `troubles`.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from simulators.kubernetes.cluster import Cluster
from simulators.kubernetes.store import Json, matches

BOOKMARK_EACH_S = 0.5  # real
MAX_BODY_BYTES = 3 * 1024 * 1024
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
Handler = Callable[[Request], Awaitable[Response]]


class StatusError(Exception):
    """Answered as a Status object."""

    def __init__(self, status: HTTPStatus, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    def document(self) -> Json:
        """The object."""
        return status_object(int(self.status), self.reason, str(self))


def status_object(code: int, reason: str, message: str) -> Json:
    """A Status that says no."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


class KubeApi:
    """The API of a cluster."""

    def __init__(self, cluster: Cluster, namespace: str, now_s: Callable[[], float]) -> None:
        self._cluster, self._namespace, self._now_s = cluster, namespace, now_s
        self.tokens: set[str] = set()  # valid now
        self.calls: list[tuple[str, str]] = []  # method and path, of all that came in

    def app(self) -> Starlette:
        """The ASGI application."""
        jobs = "/apis/batch/v1/namespaces/{namespace}/jobs"
        routes = [
            Route(jobs, self._guarded(self._list("jobs")), methods=["GET"]),
            Route(jobs, self._guarded(self._create), methods=["POST"]),
            Route(jobs + "/{name}", self._guarded(self._get), methods=["GET"]),
            Route(jobs + "/{name}", self._guarded(self._patch), methods=["PATCH"]),
            Route(jobs + "/{name}", self._guarded(self._delete), methods=["DELETE"]),
            Route("/api/v1/namespaces/{namespace}/pods", self._guarded(self._list("pods")), methods=["GET"]),
            Route("/api/v1/nodes", self._guarded(self._list("nodes")), methods=["GET"]),
        ]
        return Starlette(routes=routes)

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            self.calls.append((request.method, request.url.path))
            troubles = self._cluster.troubles
            await asyncio.sleep(troubles.latency_s)
            try:
                self._check(request)
                self._cluster.advance(self._now_s())
                return await handler(request)
            except StatusError as error:
                return JSONResponse(error.document(), int(error.status))
            except ClientDisconnect:  # before its body was whole: nobody hears the answer
                return Response(status_code=HTTPStatus.BAD_REQUEST)

        return guarded

    def _check(self, request: Request) -> None:
        troubles = self._cluster.troubles
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise StatusError(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")
        failures = troubles.fail_lists if request.method == "GET" else troubles.fail_next
        if failures:
            status = HTTPStatus(failures.pop(0))
            raise StatusError(status, "InternalError", f"the server says {status.phrase}")
        if request.path_params.get("namespace", self._namespace) != self._namespace:
            raise StatusError(HTTPStatus.NOT_FOUND, "NotFound", "namespaces not found")

    # -- reads --------------------------------------------------------------------------------------------------------

    def _list(self, kind: str) -> Handler:
        async def handler(request: Request) -> Response:
            selector = request.query_params.get("labelSelector", "")
            if request.query_params.get("watch") in ("1", "true"):
                return self._watch(request, kind, selector)
            found = [body for body in self._cluster.store.all(kind) if matches(body, selector)]
            first, most = int(request.query_params.get("continue", "0")), int(request.query_params.get("limit", "500"))
            meta = {"resourceVersion": str(self._cluster.store.version)}
            if first + most < len(found):
                meta["continue"] = str(first + most)
            page = found[first : first + most]
            return JSONResponse({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": page})

        return handler

    def _watch(self, request: Request, kind: str, selector: str) -> Response:
        version = int(request.query_params.get("resourceVersion", "0"))
        if not self._cluster.store.has(version):
            raise StatusError(HTTPStatus.GONE, "Expired", f"too old resource version: {version}")
        lasts_s = float(request.query_params.get("timeoutSeconds", "300"))
        events = self._events(kind, selector, version, lasts_s)
        return StreamingResponse(events, media_type="application/json")

    async def _events(self, kind: str, selector: str, version: int, lasts_s: float) -> AsyncIterator[bytes]:
        store, troubles = self._cluster.store, self._cluster.troubles
        until_s, told = asyncio.get_running_loop().time() + lasts_s, 0
        while asyncio.get_running_loop().time() < until_s:
            changed = store.changed
            if not store.has(version):
                yield _line("ERROR", status_object(410, "Expired", f"too old resource version: {version}"))
                return
            for event in store.since(version, kind):
                version = event.version
                if matches(event.body, selector):
                    told += 1
                    line = _line(event.what, event.body)
                    if troubles.cut_watches_after and told > troubles.cut_watches_after:
                        yield line[: len(line) // 2]
                        raise ConnectionResetError
                    yield line
            try:
                async with asyncio.timeout(BOOKMARK_EACH_S):
                    await changed.wait()
            except TimeoutError:
                if troubles.has_bookmarks:
                    version = store.version
                    yield _line("BOOKMARK", {"kind": kind, "metadata": {"resourceVersion": str(version)}})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._job(request))

    # -- writes -------------------------------------------------------------------------------------------------------

    async def _create(self, request: Request) -> Response:
        body = await _body(request)
        name = body.get("metadata", {}).get("name", "")
        if not _NAME.fullmatch(name):
            raise StatusError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", f"metadata.name: {name!r} is no DNS label")
        if self._cluster.store.get("jobs", name) is not None:
            raise StatusError(HTTPStatus.CONFLICT, "AlreadyExists", f'jobs.batch "{name}" already exists')
        self._check_starts(body)
        if request.query_params.get("dryRun") == "All":
            return JSONResponse(body, HTTPStatus.CREATED)
        body["metadata"] |= {"namespace": self._namespace, "uid": f"uid-{self._cluster.store.version}"}
        return JSONResponse(self._cluster.store.put("jobs", body | {"status": {}}), HTTPStatus.CREATED)

    async def _patch(self, request: Request) -> Response:
        if request.headers.get("content-type") != "application/merge-patch+json":
            raise StatusError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", "a merge patch is expected")
        job, patch, troubles = self._job(request), await _body(request), self._cluster.troubles
        if troubles.conflict_next:
            troubles.conflict_next -= 1
            job = self._cluster.store.put("jobs", job | {})
        _check_version(job, patch.get("metadata", {}).get("resourceVersion"))
        changed = job | {"spec": job["spec"] | patch.get("spec", {})}
        self._check_starts(changed)
        return JSONResponse(self._cluster.store.put("jobs", changed))

    async def _delete(self, request: Request) -> Response:
        job, options = self._job(request), await _body(request) if await request.body() else {}
        _check_version(job, options.get("preconditions", {}).get("resourceVersion"))
        meta = job["metadata"] | {"deletionTimestamp": "2025-01-01T00:00:00Z"}
        return JSONResponse(self._cluster.store.put("jobs", job | {"metadata": meta}))

    def _check_starts(self, job: Json) -> None:
        if self._cluster.troubles.refuse_starts and not job["spec"].get("suspend"):
            raise StatusError(HTTPStatus.FORBIDDEN, "Forbidden", "admission webhook denied the request")

    def _job(self, request: Request) -> Json:
        name = request.path_params["name"]
        job = self._cluster.store.get("jobs", name)
        if job is None:
            raise StatusError(HTTPStatus.NOT_FOUND, "NotFound", f'jobs.batch "{name}" not found')
        return job


def _check_version(job: Json, version: str | None) -> None:
    if version is not None and version != job["metadata"]["resourceVersion"]:
        raise StatusError(HTTPStatus.CONFLICT, "Conflict", "the object has been modified; please apply your changes")


def _line(what: str, body: Json) -> bytes:
    return json.dumps({"type": what, "object": body}).encode() + b"\n"


async def _body(request: Request) -> Json:
    whole = await request.body()
    try:
        said = json.loads(whole[: MAX_BODY_BYTES + 1])
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise StatusError(HTTPStatus.BAD_REQUEST, "BadRequest", "the body is no object")
    return said
