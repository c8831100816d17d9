"""Simulated time across runs: a new platform begins at a fixed instant, a restarted one goes on from there."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.runtime.files import put_whole
from hcp_pipelines.settings import Settings

GENERATED_WORLD_STARTS_AT = datetime(2025, 1, 1, tzinfo=UTC)
MARGIN_REAL_S = 2.0


def write_anchor(settings: Settings, start_at: datetime | None, begins_at: datetime | None = None) -> Anchor:
    """The anchor of this run, written to `run/clock.json`; a new world begins at `start_at`, or where it says itself.

    Raises:
        ConfigError: `--from` on a state directory whose world has already run.
    """
    real_at = SystemClock().real_now()
    reached = _reached(settings)
    if settings.world == "real":
        simulated_at = real_at
    elif reached is not None:
        if start_at is not None and start_at != _begun(settings):
            raise ConfigError(
                f"--from {start_at.isoformat()}: the world in {settings.state_dir} has already reached "
                f"{reached.isoformat()}. Leave --from out to go on, or take another --state-dir."
            )
        simulated_at = reached
    else:
        simulated_at = start_at or begins_at or GENERATED_WORLD_STARTS_AT
        _write(_history(settings), {"begun": simulated_at.isoformat()})
    anchor = Anchor(real_at=real_at, simulated_at=simulated_at, speed=settings.clock_speed)
    path = settings.at("run", "clock.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    put_whole(path, anchor.dump())
    return anchor


def note_reached(settings: Settings, anchor: Anchor) -> None:
    """Remember the simulated instant, a little ahead, so that a restarted world never goes back."""
    now = SystemClock(anchor).now() + timedelta(seconds=MARGIN_REAL_S * anchor.speed)
    record = _read(_history(settings)) | {"reached": now.isoformat(), "world": settings.world, "seed": settings.seed}
    _write(_history(settings), record)


def refuse_other_world(settings: Settings) -> None:
    """Raise ConfigError when there is no such recording, or the state directory holds the history of another world."""
    if settings.replay_dir is not None and not settings.replay_dir.is_dir():
        raise ConfigError(
            f"HCP_WORLD={settings.world}: there is no such folder; name one that holds recorded series (docs/world.md)"
        )
    record = _read(_history(settings))
    for name, value in (("world", settings.world), ("seed", settings.seed)):
        if name in record and record[name] != value:
            raise ConfigError(
                f"HCP_{name.upper()}={value}: {settings.state_dir} holds the history of {name} {record[name]}, and one "
                "lake can't hold two worlds. Take another --state-dir, or remove this one."
            )


def _history(settings: Settings) -> Path:
    return settings.at("world", "history.json")


def _reached(settings: Settings) -> datetime | None:
    text = _read(_history(settings)).get("reached")
    return datetime.fromisoformat(str(text)) if text else None


def _begun(settings: Settings) -> datetime | None:
    text = _read(_history(settings)).get("begun")
    return datetime.fromisoformat(str(text)) if text else None


def _read(path: Path) -> dict[str, object]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(path: Path, record: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    put_whole(path, json.dumps(record))
