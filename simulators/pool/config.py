"""The section `pool` of world.yaml: ports, difficulties, fee. Imports nothing of the world."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

HIGHEST_DIFFICULTY = 1e15  # above that a target has hardly any bits left


class PoolConfig(BaseModel):
    """The pool of one account, which all simulated miners work for. Port 0 takes a free one.

    Attributes:
        account: whose miners the simulated ones are; what their workers' names begin with, up to the first dot.
        is_open: whether others may work here under an account of their own; else they are refused.
        token_file: holds the token that the statistics need; without one they are open.
        authority_key_file: the secret of the authority that signs the V2 server's certificate, 64 hex digits; without one a key
            that anybody can make from the seed.
        start_difficulty: of a new connection that suggests none.
        share_every_s: real seconds between two shares that vardiff aims for.
        job_every_s: real seconds after which there is a new job although no block was found.
        network_share: of the whole network's hashrate that the pool has, of which our own miners are a part; it decides how
            many blocks it finds, and so its luck.
        requests_per_minute: that the statistics answer to one token, real minutes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = False
    v1_port: int = Field(default=3333, ge=0, le=65535)
    v2_port: int = Field(default=34254, ge=0, le=65535)
    api_port: int = Field(default=3380, ge=0, le=65535)
    account: str = Field(default="hcp", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    is_open: bool = True
    token_file: Path | None = None
    authority_key_file: Path | None = None
    start_difficulty: float = Field(default=1e-4, gt=0, le=HIGHEST_DIFFICULTY)
    least_difficulty: float = Field(default=1e-7, gt=0, le=HIGHEST_DIFFICULTY)
    share_every_s: float = Field(default=5.0, ge=0.05, le=600)
    job_every_s: float = Field(default=30.0, ge=0.05, le=600)
    max_connections: int = Field(default=1024, ge=1, le=16_384)
    fee_fraction: float = Field(default=0.02, ge=0, lt=1)
    network_share: float = Field(default=0.04, gt=0, le=1)
    requests_per_minute: int = Field(default=60, ge=1, le=100_000)
    keep_days: int = Field(default=8, ge=2, le=90)

    @model_validator(mode="after")
    def _difficulties_fit(self) -> Self:
        if self.least_difficulty > self.start_difficulty:
            message = (
                f"least_difficulty {self.least_difficulty} is above start_difficulty {self.start_difficulty}; lower it"
            )
            raise ValueError(message)
        return self
