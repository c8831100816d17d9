"""The block explorer beside its lists of blocks: price, hashrate, what a block is by number or by name, as mempool.space has it.

Lists of blocks, fees and the next adjustment are in `http` and `listings`. Source: mempool.space REST API; `/api/…` is Esplora's.
"""

from collections.abc import Callable, Mapping
from typing import Final

from simulators.bitcoin import EPOCH_BLOCKS, Block
from simulators.documents import block_document
from simulators.exchanges import Answer
from simulators.series import GENERATED, World
from simulators.streams import DAY_S

HASHES_PER_DIFFICULTY: Final = 2**32
BLOCKS_PER_PAGE: Final = 10  # of Esplora's lists
SPANS_D: Final[Mapping[str, int]] = {"1d": 1, "3d": 3, "1w": 7, "1m": 30, "3m": 90}
_LIMIT_VB: Final = 1_000_000
_NOT_FOUND: Final = "Block not found"


def prices(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """Bitcoin's price in whole dollars; no other currency is known here."""
    price, source = world.btc_usd(now_s)
    return {"time": int(now_s) - int(now_s) % 300, "USD": round(price)}, source, 200


def hashrate(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The network's hashrate by day of a span, from blocks and their difficulty, and the adjustments in it."""
    days = SPANS_D.get(query["span"])
    if days is None:
        return f"no such interval; there are {', '.join(SPANS_D)}", GENERATED, 400
    blocks, source = world.blocks(now_s, days * 200)
    within = [block for block in reversed(blocks) if block.timestamp_s > now_s - days * DAY_S]
    by_day: dict[int, list[Block]] = {}
    for block in within:
        by_day.setdefault(int(block.timestamp_s // DAY_S), []).append(block)
    rates = [
        {"timestamp": day * DAY_S, "avgHashrate": _rate(found, min(now_s, (day + 1) * DAY_S) - day * DAY_S)}
        for day, found in sorted(by_day.items())
        if day * DAY_S >= now_s - days * DAY_S
    ]
    turns = [block for block in within if block.height % EPOCH_BLOCKS == 0]
    newest = within[-EPOCH_BLOCKS:]
    body = {
        "hashrates": rates,
        "difficulty": [
            {"time": int(block.timestamp_s), "height": block.height, "difficulty": block.difficulty, "adjustment": 1.0}
            for block in turns
        ],
        "currentHashrate": _rate(newest, now_s - newest[0].timestamp_s) if newest else 0.0,
        "currentDifficulty": blocks[0].difficulty,
    }
    return body, source, 200


def _rate(blocks: list[Block], span_s: float) -> float:
    """Hashes a second that found these blocks."""
    return sum(block.difficulty for block in blocks) * HASHES_PER_DIFFICULTY / max(span_s, 1.0)


def mempool(_world: World, _query: Mapping[str, str], _now_s: float) -> Answer:
    """What waits for a block: in this world always the same."""
    waiting = [[1.3, _LIMIT_VB], [1.0, 2 * _LIMIT_VB]]
    body = {"count": 6000, "vsize": 3 * _LIMIT_VB, "total_fee": 4_000_000, "fee_histogram": waiting}
    return body, GENERATED, 200


def page(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Ten blocks, the newest or up to a height, without what mempool.space adds to them."""
    tip, source = world.blocks(now_s, 1)
    height = _height(query.get("height", str(tip[0].height)))
    if height is None:
        return "Invalid height", GENERATED, 400
    found = world.blocks_below(min(height, tip[0].height), BLOCKS_PER_PAGE, now_s)
    if found is None:
        return [], source, 200
    return [_plain(block) for block in found[0]], found[1], 200


def block(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """A block by its name, with what mempool.space adds."""
    found = named_block(world, query["name"], now_s)
    return (_NOT_FOUND, GENERATED, 404) if found is None else (block_document(found[0]), found[1], 200)


def plain_block(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """A block by its name, as Esplora has it."""
    found = named_block(world, query["name"], now_s)
    return (_NOT_FOUND, GENERATED, 404) if found is None else (_plain(found[0]), found[1], 200)


def tip_name(world: World, _query: Mapping[str, str], now_s: float) -> Answer:
    """The name of the newest block, plain text."""
    blocks, source = world.blocks(now_s, 1)
    return str(block_document(blocks[0])["id"]), source, 200


def name_at(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """The name of the block of a height, plain text."""
    height = _height(query["height"])
    if height is None:
        return "Invalid height", GENERATED, 400
    found = world.blocks_below(height, 1, now_s) if height <= world.blocks(now_s, 1)[0][0].height else None
    return (_NOT_FOUND, GENERATED, 404) if found is None else (str(block_document(found[0][0])["id"]), found[1], 200)


def named_block(world: World, name: str, now_s: float) -> tuple[Block, str] | None:
    """The block of a name, which is its height in hexadecimal here, and where it is from; None: there is none."""
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        return None
    height, tip = int(name, 16), world.blocks(now_s, 1)[0][0].height
    found = world.blocks_below(height, 1, now_s) if height <= tip else None
    return None if found is None else (found[0][0], found[1])


def _height(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= 9 else None


def _plain(one: Block) -> dict[str, object]:
    return {name: value for name, value in block_document(one).items() if name != "extras"}


PATHS: Final[Mapping[str, Callable[[World, Mapping[str, str], float], Answer]]] = {
    "/api/v1/prices": prices,
    "/api/v1/mining/hashrate/{span}": hashrate,
    "/api/mempool": mempool,
    "/api/blocks": page,
    "/api/blocks/{height:int}": page,
    "/api/v1/block/{name}": block,
    "/api/block/{name}": plain_block,
    "/api/blocks/tip/hash": tip_name,
    "/api/block-height/{height}": name_at,
}
