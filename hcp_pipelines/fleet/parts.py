"""What all parts of a facility file have in common: unknown keys are errors, and states are named by their labels."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from hcp_pipelines.domain.modes import DeviceState

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,40}$"


def parse_state(value: object) -> DeviceState:
    """A state from its label.

    >>> parse_state("mining_full").value
    3
    """
    if isinstance(value, DeviceState):
        return value
    for state in DeviceState:
        if state.label == value:
            return state
    raise ValueError(f"{value!r} is not a state: use one of {', '.join(s.label for s in DeviceState)}")


StateLabel = Annotated[DeviceState, BeforeValidator(parse_state), PlainSerializer(lambda s: s.label, return_type=str)]


class Part(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
