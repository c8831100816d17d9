"""The refusal of hindsight: whatever was learnt carries until when, and is not asked about a time before that."""

from datetime import datetime

from hcp_pipelines.domain.errors import ConfigError


class TrainedTooLateError(ConfigError):
    """A model or strategy knows what came after the instant it is asked at: its answer would be worth nothing."""


def refuse_hindsight(name: str, trained_until: datetime | None, asked_at: datetime) -> None:
    """Raise TrainedTooLateError for what has learnt from what came after an instant."""
    if trained_until is not None and trained_until > asked_at:
        raise TrainedTooLateError(
            f"{name} was trained until {trained_until:%Y-%m-%dT%H:%MZ}, past the window's start at {asked_at:%Y-%m-%dT%H:%MZ}: "
            "it knows what it is asked to foresee. Train it until the start at the latest (--train-until), or start later."
        )
