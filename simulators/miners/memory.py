"""What a miner's control board remembers of what it was told. Plain values, forgotten when the world restarts."""

from dataclasses import dataclass, field
from typing import Final

POOLS: Final = 3


@dataclass(frozen=True, slots=True)
class Pool:
    """One configured pool; an empty URL is an unused place."""

    url: str
    user: str
    password: str


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
