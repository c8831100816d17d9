"""How the world's file has the outside services behave, whatever the scenario says."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ErcotLoginConfig(BaseModel):
    """Who may ask ERCOT's reports: the one user name, password and subscription key. No secrets: the world is simulated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str = Field(min_length=1)
    password: str = Field(min_length=1)
    subscription_key: str = Field(min_length=1)
    token_life_s: float = Field(default=3600.0, ge=1.0, le=86_400.0)


class MarketsConfig(BaseModel):
    """The outside services.

    Attributes:
        limits: as the scenario has it, or requests beyond a service's limit counted, or refused.
        ercot_login: None: reports are answered without a token and without a key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: Literal["scenario", "counted", "enforced"] = "scenario"
    ercot_login: ErcotLoginConfig | None = None
