"""Who may give this gateway direct orders: names, roles and digests of tokens, from a file of mode 0600. Nothing is written here.

Every attempt is logged and counted. What an order does is in `standing.py`.
"""

import hashlib
import hmac
from pathlib import Path
from typing import Literal

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.wire import edge_v1_pb2 as pb

FRESH_FOR_S = 60.0
_NAME_MAX = 100
_NOBODY = "0" * 64


class Account(BaseModel):
    """An operator; keys that are not known here are left alone."""

    model_config = ConfigDict(frozen=True)

    role: Literal["viewer", "operator", "admin"]
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Accounts(BaseModel):
    """The file."""

    operators: dict[str, Account]


class Operators:
    """Judges whose order it is. The file is read at each order: who is disabled may not give the next one."""

    def __init__(self, path: Path | None, clock: SystemClock) -> None:
        self._path, self._clock = path, clock
        self._log = structlog.get_logger("edge.direct")

    def refusal_of(self, order: pb.DirectOrder) -> pb.DirectReply | None:
        """The refusal of an order that its sender may not give; None when he may."""
        detail = self._objection(order)
        if not detail:
            return None
        return self.note(order, pb.DirectReply(refusal=RefusalCode.NOT_ALLOWED.value, detail=detail))

    def note(self, order: pb.DirectOrder, reply: pb.DirectReply) -> pb.DirectReply:
        """Log and count an attempt and its answer."""
        say = self._log.info if reply.accepted else self._log.warning
        what = order.WhichOneof("what") or "nothing"
        say(
            "a direct order", facility_id=order.facility_id[:_NAME_MAX], operator=order.operator[:_NAME_MAX],
            order_id=order.order_id[:_NAME_MAX], what=what, devices=reply.devices, refusal=reply.refusal, detail=reply.detail,
        )  # fmt: skip
        metrics.DIRECT.labels(reply.refusal or "accepted").inc()
        return reply

    def _objection(self, order: pb.DirectOrder) -> str:
        if self._path is None:
            return "this gateway's file names no operators_file: nobody may give direct orders"
        try:
            accounts = _read(self._path)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError, ValueError) as error:
            self._log.error("the operators' file can't be used", path=str(self._path), error=str(error))
            return f"the gateway can't read its operators' file ({type(error).__name__}); its log says why"
        account = accounts.operators.get(order.operator)
        digest = hashlib.sha256(order.token.encode()).hexdigest()
        is_theirs = hmac.compare_digest(digest, account.token_sha256 if account else _NOBODY)
        if account is None or not is_theirs:
            return f"operator {order.operator[:_NAME_MAX]!r} is not known here, or the token is another one"
        if account.role == "viewer":
            return f"operator {order.operator!r} is a viewer: orders need the role operator or admin"
        age_s = self._clock.real_now().timestamp() - order.issued_at_ms / 1000
        if abs(age_s) > FRESH_FOR_S:
            return f"issued {age_s:.0f} s ago by this machine's clock, the limit is {FRESH_FOR_S:.0f} s: set the clocks"
        return ""


def _read(path: Path) -> Accounts:
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path}: others may read it; chmod 600")
    return Accounts.model_validate(yaml.safe_load(path.read_text()))
