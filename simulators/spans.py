"""Times within a scenario's script. What they shift is in the modules of the things that change."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """A part of a scenario file: no field that is not known, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Span(Strict):
    """A time within the script: it grows over `rise_h`, holds, and fades over `rise_h` until `until_h`."""

    from_h: float = Field(ge=0.0)
    until_h: float = Field(gt=0.0)
    rise_h: float = Field(default=0.0, ge=0.0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until_h - self.from_h < max(2.0 * self.rise_h, 1e-9):
            message = (
                f"from_h {self.from_h} to until_h {self.until_h} is too short to rise and fade over {self.rise_h} h"
            )
            raise ValueError(message)
        return self
