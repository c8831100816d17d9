"""The section `openadr` of world.yaml. Imports nothing of the world."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MAX_VENS = 64


class OpenAdrConfig(BaseModel):
    """The demand response server of the world.

    Attributes:
        port: of every address of 127/8; 0 takes a free one.
        vtn_id: as every message names it. Upper case: stock clients refuse others.
        poll_s: real seconds, what registered VENs are asked to leave between two polls.
        report_s: real seconds between two samples of the power that VENs are asked to report.
        market: where the market contexts of events begin; the kind of event follows.
        client_file: `CLIENT_ID:SECRET` lines of those who may fetch a token (3.1); without one 3.1 is not served.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = False
    port: int = Field(default=8081, ge=0, le=65535)
    vtn_id: str = Field(default="WORLD-VTN", pattern=r"^[A-Z][A-Z0-9_-]{0,60}$")
    poll_s: int = Field(default=10, ge=1, le=3600)
    report_s: int = Field(default=10, ge=1, le=3600)
    market: str = Field(default="http://grid.example", pattern=r"^https?://[^\s/]+[^\s]*[^/\s]$")
    client_file: Path | None = None
