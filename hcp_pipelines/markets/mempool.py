"""mempool.space: difficulty, height and the 144-block mean of fees, as ticks of `btc.network`.

What these make in dollars is in economics; the subsidy is a function of the height and is not read here.
Source: mempool.space REST API, `/v1/blocks` and `/v1/mining/reward-stats/144`.
"""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://mempool.space"
BLOCKS = "/api/v1/blocks"
REWARD_STATS = "/api/v1/mining/reward-stats/144"
SATS_PER_BTC = 100_000_000
SOURCE = "mempool.space"


class _Block(BaseModel):
    height: int = Field(ge=0)
    timestamp: int = Field(ge=0)
    difficulty: float

    @field_validator("difficulty", mode="before")
    @classmethod
    def _number_or_nan(cls, raw: Any) -> float:
        return number(raw)


class _RewardStats(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    start_block: int = Field(alias="startBlock", ge=0)
    end_block: int = Field(alias="endBlock", ge=0)
    total_fee_sats: float = Field(alias="totalFee")

    @field_validator("total_fee_sats", mode="before")
    @classmethod
    def _number_or_nan(cls, raw: Any) -> float:
        return number(raw)


_BLOCKS = TypeAdapter(list[_Block])


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


def _tick(series: str, source_at: datetime, value: float, unit: str, metadata: dict[str, Any]) -> Tick:
    return Tick(Stream.BTC_NETWORK, series, source_at, value, unit, SOURCE, metadata=metadata)
