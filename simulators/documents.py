"""Single items of market replies: a block of mempool.space, an offer of Prime Intellect."""

from typing import Final

from simulators.bitcoin import Block
from simulators.gpu import Offer

_TARGET_OF_ONE: Final = 0xFFFF << 208
_RESOURCE: dict[str, object] = {
    "minCount": None,
    "maxCount": None,
    "pricePerUnit": None,
    "step": None,
    "defaultIncludedInPrice": True,
    "additionalInfo": None,
}


def block_document(block: Block) -> dict[str, object]:
    """A block as mempool.space tells it."""
    return {
        "id": f"{block.height:064x}",
        "height": block.height,
        "version": 536_870_912,
        "timestamp": int(block.timestamp_s),
        "tx_count": 3000,
        "size": 1_600_000,
        "weight": 3_993_000,
        "previousblockhash": f"{block.height - 1:064x}",
        "mediantime": int(block.timestamp_s) - 3000,
        "merkle_root": f"{block.height:064x}"[::-1],
        "nonce": block.height * 2_654_435_761 % 2**32,
        "bits": compact_target(block.difficulty),
        "difficulty": block.difficulty,
        "extras": {
            "totalFees": block.fees_sat,
            "reward": block.fees_sat + block.subsidy_sat,
            "avgFee": block.fees_sat // 3000,
            "avgFeeRate": block.fees_sat // 998_250,
            "medianFee": round(block.fees_sat / 998_250, 2),
            "pool": {"id": 0, "name": "Unknown", "slug": "unknown"},
        },
    }


def compact_target(difficulty: float) -> int:
    """The target of a difficulty as block headers carry it: an exponent and three digits of base 256.

    >>> hex(compact_target(1.0))
    '0x1d00ffff'
    """
    target = int(_TARGET_OF_ONE / difficulty)
    size = -(-target.bit_length() // 8)
    digits = target >> 8 * (size - 3)
    return (size + 1) << 24 | digits >> 8 if digits & 0x800000 else size << 24 | digits


def offer_document(offer: Offer) -> dict[str, object]:
    """An offer as Prime Intellect lists it."""
    gpu = offer.gpu_type
    return {
        "cloudId": f"{offer.provider}-{gpu.name}-{gpu.socket}-{offer.gpu_count}".lower(),
        "gpuType": gpu.name,
        "socket": gpu.socket,
        "provider": offer.provider,
        "region": "united_states",
        "country": "US",
        "gpuCount": offer.gpu_count,
        "gpuMemory": gpu.memory_gb,
        "stockStatus": offer.stock_status,
        "security": "secure_cloud",
        "prices": {
            "onDemand": round(offer.usd_per_gpu_hour * offer.gpu_count, 2),
            "communityPrice": None,
            "isVariable": False,
            "currency": "USD",
        },
        "isSpot": False,
        "dataCenter": "US-TX-1",
        "disk": {**_RESOURCE, "defaultCount": 1000},
        "vcpu": {**_RESOURCE, "defaultCount": 16 * offer.gpu_count},
        "memory": {**_RESOURCE, "defaultCount": 200 * offer.gpu_count},
        "internetSpeed": 10_000.0,
        "interconnect": None,
        "interconnectType": None,
        "provisioningTime": 10,
        "images": ["ubuntu_22_cuda_12"],
        "prepaidTime": None,
    }
