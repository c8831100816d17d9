"""What a mining pool credits, in the shape of Braiins Pool's public API: by worker and UTC day, the pool's fee and luck, rewards.

Credits are counted from shares, not told by miners: what a miner claims can be held against them. That API tells the last 24
hours; a pool that keeps days by worker says so (`extensions`), as the simulated one does. Stores nothing.
Source: Braiins Academy, Pool Monitoring; docs/pool.md for what the simulated pool adds.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit

LIMIT = Limit(1, 5.0)  # published as safe; who asks far more often is banned by address
TOLD_LIMIT = Limit(60, 60.0)  # of a pool that tells in its headers what is left
TOKEN_HEADER = "Pool-Auth-Token"  # noqa: S105 - its name
SOURCE = "pool"
STATS = "/stats/json/btc"
WORKERS = "/accounts/workers/json/btc"
WORKERS_DAILY = "/accounts/workers_daily/json/btc"
REWARDS = "/accounts/rewards/json/btc"
DAYS_KEPT, PAGES, LIMIT_TOLD = "workers_daily", "pages", "rate_limit_headers"  # names in `extensions`
PAGE_SIZE = 1000
MAX_PAGES = 1000
FRESH = timedelta(hours=2)  # after a day its last 24 hours are the day, nearly: 2 of 24 hours may be others
_TH_PER_S = {"h/s": 1e-12, "kh/s": 1e-9, "mh/s": 1e-6, "gh/s": 1e-3, "th/s": 1.0, "ph/s": 1e3, "eh/s": 1e6}

Document = TypeVar("Document", bound=BaseModel)


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Worker(_Told):
    hash_rate_unit: str
    hash_rate_24h: float = Field(ge=0)
    valid_shares: int | None = Field(default=None, ge=0)
    stale_shares: int | None = Field(default=None, ge=0)
    rejected_shares: int | None = Field(default=None, ge=0)


class _Pages(_Told):
    page_count: int = Field(ge=0)


class _Workers(_Told):
    workers: dict[str, _Worker]
    pagination: _Pages = _Pages(page_count=1)
    date: int | None = None
    is_final: bool = True


class _Stats(_Told):
    pool_fee: float | None = Field(default=None, ge=0, lt=1)
    luck_b10: float | None = None
    luck_b50: float | None = None
    luck_b250: float | None = None
    extensions: list[str] = []


class _Reward(_Told):
    date: int
    total_reward: float = Field(ge=0)


class _Rewards(_Told):
    daily_rewards: list[_Reward]


class Credit(NamedTuple):
    """What one worker was credited on a day; share counts where the pool tells them."""

    worker: str
    hashrate_th_per_s: float
    valid_shares: int | None
    stale_shares: int | None
    rejected_shares: int | None


class PoolTerms(NamedTuple):
    """The pool's fee as a fraction, and its luck over its last blocks (by how many; above 1 is lucky), where it tells them."""

    fee_fraction: float | None
    luck: dict[int, float]
    extensions: frozenset[str]

    @property
    def limit(self) -> Limit:
        """How often this pool may be asked."""
        return TOLD_LIMIT if LIMIT_TOLD in self.extensions else LIMIT


class Device(NamedTuple):
    """Whose worker a worker is."""

    facility_id: str
    slot: int


def device_of(worker: str) -> Device | None:
    """The device of a worker that is named ACCOUNT.FACILITY.SLOT, as ours are; None of any other.

    >>> device_of("hcp.tx-1.17"), device_of("hcp.rig"), device_of("hcp.tx-1.x")
    (Device(facility_id='tx-1', slot=17), None, None)
    """
    account, _, rest = worker.partition(".")
    facility_id, _, slot = rest.rpartition(".")
    is_ours = account and facility_id and slot.isascii() and slot.isdecimal() and len(slot) < 10
    return Device(facility_id, int(slot)) if is_ours else None


class PoolClient:
    """One account at a pool."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def terms(self) -> PoolTerms:
        """Fee and luck.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        told = await self._ask(STATS, {}, _Stats)
        lucks = {10: told.luck_b10, 50: told.luck_b50, 250: told.luck_b250}
        luck = {blocks: value for blocks, value in lucks.items() if value is not None}
        return PoolTerms(told.pool_fee, luck, frozenset(told.extensions))

    async def credits(self, day: date, now: datetime, terms: PoolTerms) -> list[Credit]:
        """What each worker was credited on a UTC day that is over, by a pool of such terms.

        Raises:
            MarketError: no reply, one of another shape, or a day that the pool can't tell, or not yet.
        """
        extensions = terms.extensions
        if DAYS_KEPT in extensions:
            return await self._paged(WORKERS_DAILY, {"date": day.isoformat()}, day, is_paged=PAGES in extensions)
        over = now - _midnight(day + timedelta(days=1))
        if not timedelta() <= over <= FRESH:
            raise MarketError(
                f"{WORKERS}: this pool tells the last 24 hours alone, and it is {now:%Y-%m-%d %H:%M}Z: {day} can be asked for "
                f"within {FRESH.total_seconds() / 3600:.0f} hours after its end."
            )
        return await self._paged(WORKERS, {}, day, is_paged=PAGES in extensions)

    async def rewards_btc(self, first: date, last: date) -> dict[date, float]:
        """What each UTC day from the first to the last has earned, as far as it is settled.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        told = await self._ask(REWARDS, {"from": first.isoformat(), "to": last.isoformat()}, _Rewards)
        return {datetime.fromtimestamp(each.date, UTC).date(): each.total_reward for each in told.daily_rewards}

    async def _paged(self, path: str, asked: dict[str, str], day: date, *, is_paged: bool) -> list[Credit]:
        """All workers, each once; of a pool without pages they are in one reply."""
        found: dict[str, Credit] = {}
        for page in range(1, MAX_PAGES + 1):
            params: dict[str, str | int] = {**asked, "page": page, "page_size": PAGE_SIZE} if is_paged else {**asked}
            told = await self._ask(path, params, _Workers)
            if told.date is not None and told.date != _midnight(day).timestamp():
                raise MarketError(f"{path}: the reply is of another day than {day}: {told.date}.")
            if not told.is_final:
                raise MarketError(f"{path}: {day} is not settled yet; ask again later.")
            found |= {name: _credit(path, name, worker) for name, worker in told.workers.items()}
            if not is_paged or page >= told.pagination.page_count:
                return list(found.values())
        raise MarketError(f"{path}: more than {MAX_PAGES} pages.")

    async def _ask(self, path: str, params: Mapping[str, str | int], shape: type[Document]) -> Document:
        reply = await self._http.get_json(path, params)
        try:
            return shape.model_validate(reply.body["btc"])
        except (KeyError, TypeError, ValidationError) as error:
            raise MarketError(f"{path}: not what a pool answers ({error!s:.200}): {reply.body!r:.200}.") from error


def _credit(path: str, name: str, worker: _Worker) -> Credit:
    scale = _TH_PER_S.get(worker.hash_rate_unit.lower())
    if scale is None:
        raise MarketError(f"{path}: {name} has its hashrate in {worker.hash_rate_unit!r}: not a unit that is known.")
    rate = worker.hash_rate_24h * scale
    return Credit(name, rate, worker.valid_shares, worker.stale_shares, worker.rejected_shares)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
