"""mempool.space: difficulty, height and the 144-block mean of fees, as ticks of `btc.network`; and past blocks.

What these make in dollars is in economics; the subsidy is a function of the height and is not read here.
Source: mempool.space REST API, `/v1/blocks`, `/v1/mining/reward-stats/144` and `/v1/mining/blocks/timestamp`.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://mempool.space"
LIMIT = Limit(250, 60.0)  # not published: ours
BLOCKS = "/api/v1/blocks"
BLOCK_AT = "/api/v1/mining/blocks/timestamp"
REWARD_STATS = "/api/v1/mining/reward-stats/144"
SATS_PER_BTC = 100_000_000
SOURCE = "mempool.space"


class MinedBlock(NamedTuple):
    """A block of the chain: what its miner was paid, bitcoin, and how hard it was."""

    start_at: datetime
    height: int
    difficulty: float
    fees_btc: float
    reward_btc: float
    tx_count: int


Height = Annotated[int, Field(ge=0, le=10**9)]
Stamp = Annotated[int, Field(ge=0, lt=2**32)]  # Unix seconds: a header has four bytes for them


class _Extras(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    total_fees_sats: float = Field(alias="totalFees")
    reward_sats: float = Field(alias="reward")


class _MinedBlock(BaseModel):
    height: Height
    timestamp: Stamp
    difficulty: float
    tx_count: int = Field(ge=0)
    extras: _Extras


class _Block(BaseModel):
    height: Height
    timestamp: Stamp
    difficulty: float

    @field_validator("difficulty", mode="before")
    @classmethod
    def _number_or_nan(cls, raw: Any) -> float:
        return number(raw)


class _RewardStats(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    start_block: Height = Field(alias="startBlock")
    end_block: Height = Field(alias="endBlock")
    total_fee_sats: float = Field(alias="totalFee")

    @field_validator("total_fee_sats", mode="before")
    @classmethod
    def _number_or_nan(cls, raw: Any) -> float:
        return number(raw)


_BLOCKS = TypeAdapter(list[_Block])
_MINED = TypeAdapter(list[_MinedBlock])
_STRAY = timedelta(
    hours=2
)  # a block's own stamp may lie before its parent's: further back than this none is looked for


class MempoolClient:
    """The state of the bitcoin network."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def network(self) -> list[Tick]:
        """Three ticks: `difficulty` (1), `fees_btc_per_block` (BTC, trailing 144-block mean) and `height` (1).

        They hold from the latest stamp among the newest blocks: a block's own stamp may lie before its parent's.
        """
        reply = await self._http.get_json(BLOCKS)
        stats_reply = await self._http.get_json(REWARD_STATS)
        try:
            blocks = _BLOCKS.validate_python(reply.body)
            stats = _RewardStats.model_validate(stats_reply.body)
        except ValidationError as error:
            first = error.errors()[0]
            raise MarketError(f"{BLOCKS}, {REWARD_STATS}: {first['loc']}: {first['msg']}.") from error
        if not blocks:
            raise MarketError(f"{BLOCKS}: no block in the reply: the next poll tries again.")
        tip = max(blocks, key=lambda block: block.height)
        holds_from = datetime.fromtimestamp(max(block.timestamp for block in blocks), UTC)
        count = stats.end_block - stats.start_block + 1
        if count < 1:
            raise MarketError(f"{REWARD_STATS}: blocks {stats.start_block} to {stats.end_block}: no block in between.")
        fees_btc = stats.total_fee_sats / SATS_PER_BTC / count
        about = reply.provenance()
        return [
            _tick("difficulty", holds_from, tip.difficulty, "1", about),
            _tick("fees_btc_per_block", holds_from, fees_btc, "BTC", {**about, "blocks": count}),
            _tick("height", holds_from, float(tip.height), "1", about),
        ]

    async def blocks(self, start: datetime, end: datetime) -> list[MinedBlock]:
        """Blocks whose own stamp is in [start, end), by height; the service hands out fifteen at a time, newest first."""
        height = await self._height_at(end + _STRAY)
        found: list[MinedBlock] = []
        while height >= 0:
            page = await self._page(height)
            found += page
            height = min(block.height for block in page) - 1
            if max(block.start_at for block in page) < start - _STRAY:
                break
        return sorted((b for b in found if start <= b.start_at < end), key=lambda block: block.height)

    async def _height_at(self, at: datetime) -> int:
        """The height of the last block by an instant."""
        path = f"{BLOCK_AT}/{int(at.timestamp())}"
        body = (await self._http.get_json(path)).body
        try:
            return int(body["height"])
        except (KeyError, TypeError, ValueError) as error:
            raise MarketError(f"{path}: no height: {body!r:.200}.") from error

    async def _page(self, height: int) -> list[MinedBlock]:
        """The blocks up to a height, newest first.

        Raises:
            MarketError: none, or of another shape.
        """
        path = f"{BLOCKS}/{height}"
        try:
            page = _MINED.validate_python((await self._http.get_json(path)).body)
        except ValidationError as error:
            first = error.errors()[0]
            raise MarketError(f"{path}: {first['loc']}: {first['msg']}.") from error
        if not page or page[0].height != height:
            raise MarketError(f"{path}: its first block is not that of height {height}: ask again.")
        return [_mined(block) for block in page]


def _mined(block: _MinedBlock) -> MinedBlock:
    fees_btc, reward_btc = block.extras.total_fees_sats / SATS_PER_BTC, block.extras.reward_sats / SATS_PER_BTC
    mined_at = datetime.fromtimestamp(block.timestamp, UTC)
    return MinedBlock(mined_at, block.height, block.difficulty, fees_btc, reward_btc, block.tx_count)


def _tick(series: str, source_at: datetime, value: float, unit: str, metadata: dict[str, Any]) -> Tick:
    return Tick(Stream.BTC_NETWORK, series, source_at, value, unit, SOURCE, metadata=metadata)
