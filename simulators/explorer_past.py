"""The block explorer's series: adjustments of difficulty, fees and rewards by block, prices of the past, what waits by block.

Beside `explorer`, whose blocks these are. Source: mempool.space REST API; Esplora for `/api/fee-estimates` and a block's status.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from simulators.bitcoin import EPOCH_BLOCKS, Block
from simulators.documents import block_document
from simulators.exchanges import Answer
from simulators.explorer import named_block
from simulators.listings import FEES
from simulators.series import GENERATED, World
from simulators.streams import DAY_S

SPANS_D: Final[Mapping[str, int]] = {"24h": 1, "3d": 3, "1w": 7, "1m": 30, "3m": 90}
EPOCHS: Final[Mapping[str, int]] = {"1m": 2, "3m": 7, "6m": 13, "1y": 26, "2y": 52, "3y": 78}
MOST_ROWS: Final = 150
MOST_BLOCKS: Final = 2016
BLOCKS_A_DAY: Final = 200  # more than there are
_PRICE_EVERY_S: Final = 3600
_PRICES: Final = 30 * 24
_TARGETS: Final = {2: "fastestFee", 6: "halfHourFee", 24: "hourFee", 1008: "economyFee"}


def adjustments(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """`[time, height, difficulty, change]` of each adjustment, newest first; of the last year unless a span is given."""
    epochs = EPOCHS.get(query.get("span", "1y"))
    if epochs is None:
        return f"no such interval; there are {', '.join(EPOCHS)}", GENERATED, 400
    blocks, source = world.blocks(now_s, 1)
    height = blocks[0].height // EPOCH_BLOCKS * EPOCH_BLOCKS
    turns: list[Block] = []
    while len(turns) <= epochs and (found := world.blocks_below(height, 1, now_s)) is not None:
        turns.append(found[0][0])
        height -= EPOCH_BLOCKS
    rows = [
        [int(turn.timestamp_s), turn.height, turn.difficulty, round(turn.difficulty / before.difficulty, 6)]
        for turn, before in pairwise(turns)
    ]
    return rows, source, 200


def block_fees(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Mean fees of the blocks of a span, oldest first, satoshi; a row stands for several blocks where there are many."""
    return _by_block(world, query, now_s, "avgFees")


def block_rewards(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Mean rewards, fees included, in the same way."""
    return _by_block(world, query, now_s, "avgRewards")


def _by_block(world: World, query: Mapping[str, str], now_s: float, name: str) -> Answer:
    days = SPANS_D.get(query["span"])
    if days is None:
        return f"no such interval; there are {', '.join(SPANS_D)}", GENERATED, 400
    blocks, source = world.blocks(now_s, days * BLOCKS_A_DAY)
    within = [block for block in reversed(blocks) if block.timestamp_s > now_s - days * DAY_S]
    step = -(-len(within) // MOST_ROWS)
    rows = []
    for part in (within[n : n + step] for n in range(0, len(within), step)):
        fees = sum(block.fees_sat for block in part) / len(part)
        subsidy = 0 if name == "avgFees" else sum(block.subsidy_sat for block in part) / len(part)
        at_s = int(part[-1].timestamp_s)
        price = round(world.btc_usd(at_s).value)
        rows.append(
            {"avgHeight": part[len(part) // 2].height, "timestamp": at_s, name: round(fees + subsidy), "USD": price}
        )
    return rows, source, 200


def reward_stats(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Reward and fees of the last so many blocks, satoshi as texts."""
    text = query["count"]
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MOST_BLOCKS:
        return (
            {"error": f"the number of blocks must be an integer from 1 to {MOST_BLOCKS}, is {text[:40]!r}"},
            GENERATED,
            400,
        )
    blocks, source = world.blocks(now_s, int(text))
    fees = sum(block.fees_sat for block in blocks)
    body = {
        "startBlock": blocks[-1].height,
        "endBlock": blocks[0].height,
        "totalReward": str(fees + sum(block.subsidy_sat for block in blocks)),
        "totalFee": str(fees),
        "totalTx": str(3000 * len(blocks)),
    }
    return body, source, 200


def price_then(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The price in whole dollars at an instant, or by hour of the last month."""
    text = query.get("timestamp", "")
    if text and (not text.isdecimal() or len(text) > 11 or int(text) > now_s):
        return {"error": "timestamp is no Unix second that is over"}, GENERATED, 400
    if query.get("currency", "USD") != "USD":
        return {"error": "there is USD alone"}, GENERATED, 400
    last_s = int(text or now_s) // _PRICE_EVERY_S * _PRICE_EVERY_S
    quotes = [(at_s, world.btc_usd(at_s)) for at_s in range(last_s, last_s - (1 if text else _PRICES) * 3600, -3600)]
    rows = [{"time": at_s, "USD": round(quote.value)} for at_s, quote in quotes]
    return {"prices": rows, "exchangeRates": {}}, quotes[0][1].source, 200


def next_blocks(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """The blocks that what waits would fill: in this world always the same."""
    fees = [FEES[name] for name in ("fastestFee", "halfHourFee", "hourFee")]
    rows = [
        {
            "blockSize": 1_600_000, "blockVSize": 997_000.0, "nTx": 2000, "totalFees": round(fee * 997_000), "medianFee": fee,
            "feeRange": [round(fee * share, 2) for share in (0.8, 0.9, 0.95, 1.0, 1.2, 1.5, 3.0)],
        }
        for fee in fees
    ]  # fmt: skip
    return rows, GENERATED, 200


def fee_estimates(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """Fee rates by blocks to wait, as Esplora has them."""
    within = {
        n: next(FEES[name] for most, name in _TARGETS.items() if n <= most) for n in (*range(1, 26), 144, 504, 1008)
    }
    return {str(n): fee for n, fee in within.items()}, GENERATED, 200


def block_status(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Where a block stands in the chain; one that is not known in none."""
    found = named_block(world, query["name"], now_s)
    if found is None:
        return {"in_best_chain": False, "next_best": None}, GENERATED, 200
    height = found[0].height
    above = world.blocks_below(height + 1, 1, now_s) if height < world.blocks(now_s, 1)[0][0].height else None
    next_best = None if above is None else block_document(above[0][0])["id"]
    return {"in_best_chain": True, "height": height, "next_best": next_best}, found[1], 200


PATHS: Final[Mapping[str, Callable[[World, Mapping[str, str], float], Answer]]] = {
    "/api/v1/mining/difficulty-adjustments": adjustments,
    "/api/v1/mining/difficulty-adjustments/{span}": adjustments,
    "/api/v1/mining/reward-stats/{count}": reward_stats,
    "/api/v1/mining/blocks/fees/{span}": block_fees,
    "/api/v1/mining/blocks/rewards/{span}": block_rewards,
    "/api/v1/historical-price": price_then,
    "/api/v1/fees/mempool-blocks": next_blocks,
    "/api/fee-estimates": fee_estimates,
    "/api/block/{name}/status": block_status,
}
