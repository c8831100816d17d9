"""Why the agent says no: RFC 9457 problem documents, one kind a reason (docs/gpu-agent.md lists them)."""

from http import HTTPStatus


class ProblemError(Exception):
    """Answered as application/problem+json. `more` are members beside the standard ones."""

    def __init__(self, status: HTTPStatus, kind: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.more = more

    def document(self) -> dict[str, object]:
        """The body of the reply."""
        return {
            "type": f"urn:gpu-agent:problem:{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": int(self.status),
            "detail": str(self),
            **self.more,
        }


def conflict(kind: str, detail: str, **more: object) -> ProblemError:
    """The node is not in a state to do it."""
    return ProblemError(HTTPStatus.CONFLICT, kind, detail, **more)


def bad_request(detail: str, **more: object) -> ProblemError:
    """The request itself is wrong."""
    return ProblemError(HTTPStatus.BAD_REQUEST, "bad-request", detail, **more)
