"""What a miner's control board remembers of what it was told: plain values, and the part of them that outlives the world.

A board keeps in its flash what it is configured to do; sessions and tokens it keeps in memory, and loses with its power.
"""

from dataclasses import dataclass, field
from typing import Any, Final

POOLS: Final = 3
Json = dict[str, Any]
_KEPT: Final = (
    "mining_state",
    "boot_state",
    "boot_until_s",
    "closed_until_s",
    "is_blinking",
    "power_limit_w",
    "settings",
    "counter",
)


@dataclass(frozen=True, slots=True)
class Pool:
    """One configured pool; an empty URL is an unused place."""

    url: str
    user: str
    password: str


NO_POOLS: Final = [Pool("", "", "")] * POOLS


@dataclass(slots=True)
class Memory:
    """What a control board remembers of what it was told."""

    pools: list[Pool]
    mining_state: int  # it mines in when it mines
    boot_state: int | None = None  # to take once the boot is over
    boot_until_s: float = 0.0
    closed_until_s: float = 0.0
    is_blinking: bool = False
    power_limit_w: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, tuple[float, int]] = field(default_factory=dict)  # WhatsMiner: until when, uses left
    session: str = ""  # LuxOS
    session_until_s: float = 0.0
    counter: int = 0

    def lose_power(self) -> None:
        """What is not in the flash is gone: tokens, the session, the light, a boot under way."""
        self.tokens = {}
        self.session, self.session_until_s = "", 0.0
        self.is_blinking = False
        self.boot_state, self.boot_until_s, self.closed_until_s = None, 0.0, 0.0

    def document(self, factory: "Memory") -> Json:
        """What outlives the world, as far as it is not the factory's setting."""
        kept = {name: getattr(self, name) for name in _KEPT if getattr(self, name) != getattr(factory, name)}
        pools = [[pool.url, pool.user, pool.password] for pool in self.pools]
        return kept | ({"pools": pools} if self.pools != factory.pools else {})

    def take_over(self, document: Json) -> None:
        """Remember again what stands in a document."""
        for name in _KEPT:
            if name in document:
                setattr(self, name, document[name])
        if "pools" in document:
            self.pools = [Pool(*texts) for texts in document["pools"]]
