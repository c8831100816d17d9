"""What can go wrong between a client and the API (domain/errors.py).

ClientError
├── ApiError             the API refused: a problem with status, title, detail, request id and, where told, when to come again
├── ApiUnreachableError  no answer: try again, or mend the address
└── ApiReplyError        an answer that is none of this API's
"""

from collections.abc import Sequence

from hcp_pipelines.client.shapes import FieldProblem
from hcp_pipelines.domain.errors import HcpError

PASSING = frozenset({408, 429, 502, 503, 504})
WRONG_USAGE = frozenset({400, 401})  # an argument or a setting is to be mended


class ClientError(HcpError):
    """Base of them. `is_passing` ones may go well later, at the earliest after `retry_after_s` where the API says so."""

    is_passing = False
    retry_after_s: float | None = None


class ApiError(ClientError):
    """A problem (RFC 9457) that the API answered with; of an answer without one, what can be told of it."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        request_id: str = "",
        retry_after_s: float | None = None,
        errors: Sequence[FieldProblem] = (),
    ) -> None:
        self.status, self.title, self.detail, self.request_id = status, title, detail, request_id
        self.retry_after_s, self.errors = retry_after_s, tuple(errors)
        # 409 with Retry-After: the first request with the same idempotency key is still at work.
        self.is_passing = status in PASSING or (status == 409 and retry_after_s is not None)
        self.exit_code = 2 if status in WRONG_USAGE else 1
        super().__init__(self._said())

    def _said(self) -> str:
        later = f"; try again in {self.retry_after_s:g} s" if self.retry_after_s is not None else ""
        number = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.title} ({self.status}): {self.detail}{later}{number}"


class ApiUnreachableError(ClientError):
    """Nobody answered, or the answer broke off."""

    is_passing = True


class ApiReplyError(ClientError):
    """The answer can't be read as one of this API."""
