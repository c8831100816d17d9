"""Labelled specifications as files bring them: NDJSON lines with `spec`, `label.workload_type` and perhaps `setting`."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.workloads.spec import WorkloadSpec

LONGEST_LINE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Lesson:
    """A specification with its true class. `is_sound`: neither defective nor written to be of two classes."""

    spec: WorkloadSpec
    workload_type: WorkloadType
    setting: int
    is_sound: bool


@dataclass(frozen=True, slots=True)
class Lessons:
    """Of a file. `left_out`: lines whose specification the platform refuses, which nobody has to classify."""

    taken: tuple[Lesson, ...]
    left_out: int


def read_lessons(path: Path) -> Lessons:
    """The labelled specifications of a file.

    Raises:
        ConfigError: it can't be read, or a line is no labelled specification; its number is told.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = list(_lessons(path, file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    taken = tuple(each for each in found if each is not None)
    if not taken:
        raise ConfigError(f"{path}: no line has a specification that is taken")
    return Lessons(taken, len(found) - len(taken))


def _lessons(path: Path, lines: Iterable[str]) -> Iterator[Lesson | None]:
    for number, line in enumerate(lines, 1):
        try:
            if len(line) > LONGEST_LINE:
                raise ValueError(f"{len(line):,} characters, at most {LONGEST_LINE:,}")
            yield _lesson(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{path}, line {number}: {type(error).__name__}: {error}") from error


def _lesson(told: dict[str, object]) -> Lesson | None:
    label = told["label"]
    if not isinstance(label, dict):
        raise TypeError(f"label is {label!r}, an object with workload_type is needed")
    true, setting = WorkloadType(label["workload_type"]), told.get("setting", 0)
    if not isinstance(setting, int):
        raise TypeError(f"setting is {setting!r}, a whole number is needed")
    try:
        spec = WorkloadSpec.model_validate(told["spec"])
    except ValidationError:
        return None
    is_sound = label.get("defect") is None and label.get("ambiguity") is None
    return Lesson(spec, true, setting, is_sound)
