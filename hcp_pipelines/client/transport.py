"""Requests with a deadline each, repeated within a patience.

All that goes through here may be repeated: reads, cancels, and submissions under their idempotency key. What the answers mean is
not known here.
"""

import contextlib
import random
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from pydantic import ValidationError

from hcp_pipelines.client.errors import ApiError, ApiReplyError, ApiUnreachableError, ClientError
from hcp_pipelines.client.shapes import Problem
from hcp_pipelines.domain.clock import Clock, SystemClock
from hcp_pipelines.domain.errors import ConfigError

TIMEOUT_S = 20.0  # the API answers within 15 s, and says something on a stream every 5 s
PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
SHOWN_CHARACTERS = 200
_BASE_URL = re.compile(r"https://[^/?#@\s]+|http://(127\.[0-9.]+|\[::1\]|localhost)(:[0-9]{1,5})?")


class Patience:
    """How long one undertaking goes on trying, real seconds."""

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock, self._ends_s, self._pause_s = clock, clock.monotonic_s() + patience_s, PAUSE_S

    def outlasts(self, error: ClientError) -> bool:
        """Whether to try again; the pause has been made by then. Never before the API's Retry-After, never beyond the end."""
        pause_s = self._pause_s if error.retry_after_s is None else error.retry_after_s
        pause_s += random.uniform(0, self._pause_s)  # noqa: S311 - so that not all come at once
        if not error.is_passing or self._clock.monotonic_s() + pause_s > self._ends_s:
            return False
        time.sleep(pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True


class Transport:
    """One API, asked as the account of one key. The key goes over TLS, or to this machine; redirects are not followed."""

    def __init__(self, base_url: str, key: str, patience_s: float) -> None:
        if _BASE_URL.fullmatch(base_url.rstrip("/")) is None:
            raise ConfigError(
                f"{base_url!r} is no address of an API: https://HOST[:PORT], or http:// where it is on this machine"
            )
        self.base_url, self._patience_s, self._clock = base_url.rstrip("/"), patience_s, SystemClock()
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json, text/event-stream;q=0.9"},
            timeout=TIMEOUT_S,
            trust_env=self.base_url.startswith("https://"),  # no proxy sees a key in the clear
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def patience(self) -> Patience:
        """A fresh one, for one undertaking."""
        return Patience(self._clock, self._patience_s)

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer that isn't a refusal.

        Raises:
            ApiError: the API refuses, or does so still when patience ends.
            ApiUnreachableError: nobody answers until then.
        """
        patience = self.patience()
        while True:
            try:
                with _told(self.base_url):
                    reply = self._http.request(method, path, params=params, json=body, headers=headers)
                refuse(reply)
            except ClientError as error:
                if not patience.outlasts(error):
                    raise
            else:
                return reply

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
        """What one connection brings, as it comes. Once: who follows knows where to go on.

        Raises:
            ApiError: the API refuses.
            ApiUnreachableError: nobody answers, or the connection breaks.
        """
        with _told(self.base_url), self._http.stream("GET", path, headers=headers) as reply:
            if not reply.is_success:
                reply.read()
            refuse(reply)
            yield reply.iter_bytes()


@contextlib.contextmanager
def _told(base_url: str) -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:
        raise ApiUnreachableError(f"{base_url}: no answer ({str(error) or type(error).__name__})") from error


def refuse(reply: httpx.Response) -> None:
    """Raise what an answer refuses with.

    Raises:
        ApiError: it is no success.
    """
    if reply.is_success:
        return
    request_id = reply.headers.get("x-request-id", "")
    try:
        told = Problem.model_validate_json(reply.content)
    except ValidationError:
        told = Problem(title=reply.reason_phrase or "Refused", detail=_shown(reply.text), request_id=request_id)
    raise ApiError(
        reply.status_code,
        told.title,
        told.detail,
        told.request_id or request_id,
        retry_after_s(reply.headers.get("retry-after", "")),
        told.errors,
    )


def retry_after_s(text: str) -> float | None:
    """Seconds of a Retry-After; None where it says none (a date is something that this API does not send).

    >>> retry_after_s("30"), retry_after_s(""), retry_after_s("Wed, 01 Jan 2025 00:00:30 GMT")
    (30.0, None, None)
    """
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def json_of(reply: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        ApiReplyError: it is none.
    """
    try:
        return reply.json()
    except ValueError:
        raise ApiReplyError(f"{reply.request.url}: no JSON but {_shown(reply.text)!r}; is that the API?") from None


def _shown(text: str) -> str:
    return " ".join(text[:SHOWN_CHARACTERS].split())
