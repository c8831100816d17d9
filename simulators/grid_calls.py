"""What the grid asks of the sites, as a scenario scripts it: demand response, deployments, alerts, base points. The schema alone.

When a call comes in a running world is in `script`; how it is told, in `openadr`.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GridCall(BaseModel):
    """One call at an hour of the script, for some minutes, to one site (by number) or to each.

    Attributes:
        kind: `response`: draw so much less than without it. `deployment`: what was sold in `programme` goes. `alert`: the grid
            is at an EEA `level`. `base_point`: draw so much, at most.
        fraction: of the site's power when all of it is on; of a response what goes, of a base point what stays.
        notice_minutes: it is told so long before it begins.
        ramp_minutes: before its beginning, within which load comes down.
        cancelled_at_h: from then on it is told to be cancelled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_h: float = Field(ge=0.0)
    minutes: float = Field(gt=0.0, le=1440.0)
    kind: Literal["response", "deployment", "alert", "base_point"]
    programme: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,20}$")
    level: int = Field(default=0, ge=0, le=3)
    fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    site: int | None = Field(default=None, ge=0)
    notice_minutes: float = Field(default=30.0, ge=0.0, le=2880.0)
    ramp_minutes: float = Field(default=10.0, ge=0.0, le=240.0)
    cancelled_at_h: float | None = Field(default=None, ge=0.0)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        needs = {"response": self.fraction > 0, "deployment": bool(self.programme), "alert": self.level > 0}
        if not needs.get(self.kind, True):
            field = {"response": "fraction", "deployment": "programme", "alert": "level"}[self.kind]
            message = f"a call of kind {self.kind} needs its {field}"
            raise ValueError(message)
        return self
