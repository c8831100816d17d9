"""How often somebody may try to log in: by address and account together, and by address. An account alone is slowed, never shut.

Whoever has once logged in from an address is known there: neither the address's limit nor the account's slowness holds for that
pair. In memory, of one process.
"""

from collections import OrderedDict

from hcp_pipelines.api import metrics
from hcp_pipelines.api.limits import Buckets, Limit
from hcp_pipelines.api.problems import ProblemError

OF_PAIR, OF_ADDRESS = Limit(6, 10), Limit(30, 30)
OF_ACCOUNT = Limit(20, 20)  # from everywhere; beyond it each try waits
SLOWED_S = 2.0
MOST_KNOWN = 50_000


class LogIns:
    """The tries of a while, and where accounts are known."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def tried(self, name: str, address: str, now_s: float) -> float:
        """For how many seconds this try has to wait before it is looked at.

        Raises:
            ProblemError: 429 there were too many.
        """
        is_known = (name, address) in self._known
        self._take(f"log-in of {name} from {address}", OF_PAIR, now_s)
        if is_known:
            return 0.0
        self._take(f"log-in from {address}", OF_ADDRESS, now_s)
        return 0.0 if self._buckets.take(f"log-in of {name}", OF_ACCOUNT, now_s).is_allowed else SLOWED_S

    def was_right(self, name: str, address: str) -> None:
        """The account is known at this address from now on."""
        self._known[name, address] = None
        self._known.move_to_end((name, address))
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def password_tried(self, account: str, now_s: float) -> None:
        """Who is logged in names the present password for another one.

        Raises:
            ProblemError: 429 there were too many.
        """
        self._take(f"password of {account}", OF_PAIR, now_s)

    def _take(self, bucket: str, limit: Limit, now_s: float) -> None:
        taken = self._buckets.take(bucket, limit, now_s)
        if not taken.is_allowed:
            metrics.LOG_INS.labels("too_often").inc()
            raise ProblemError(429, f"too many log-ins: try again in {taken.retry_after_s} s", taken.headers())
