"""Reading and writing facility files: YAML in and out, and errors that name the file, the line and the nearest word.

The document itself is in `document.py`.
"""

from pathlib import Path
from typing import Any, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.spelling import nearest
from hcp_pipelines.fleet.document import FacilityFile

Location = tuple[str | int, ...]
TEXT_MAX_CHARS = 1_000_000
NESTED_MAX = 20
_HELP = "docs/facility-file.md describes the file."

__all__ = ["FacilityFile", "dump_facility", "load_facility", "parse_facility"]


def load_facility(path: Path) -> FacilityFile:
    """Read a facility file.

    Raises:
        ConfigError: it can't be read or is wrong; the message names file, line, value and what would be right.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}). {_HELP}") from error
    return parse_facility(text, str(path))


def parse_facility(text: str, name: str = "facility file") -> FacilityFile:
    """The facility in a YAML text; `name` is what errors call it.

    Raises:
        ConfigError: as `load_facility`.
    """
    if len(text) > TEXT_MAX_CHARS:
        raise ConfigError(f"{name}: {len(text)} characters; the limit is {TEXT_MAX_CHARS}. {_HELP}")
    try:
        _refuse_unfolding(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', error)}. {_HELP}") from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{name}: empty, or not a mapping of keys to values. {_HELP}")
    lines: dict[Location, int] = {}
    _note_lines(node, (), lines, name)
    document = cast("dict[str, Any]", yaml.safe_load(text))
    try:
        return FacilityFile.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_message(error, lines, name)) from error


def dump_facility(facility: FacilityFile) -> str:
    """The facility as YAML that `parse_facility` reads back to an equal one; every default is written out."""
    header = f"# HCP facility file, version {facility.version} (docs/facility-file.md)\n"
    return header + yaml.safe_dump(facility.document(), sort_keys=False, allow_unicode=True, width=120)


def _refuse_unfolding(text: str, name: str) -> None:
    """Aliases of aliases unfold to more than a machine can hold, and deep nesting takes hours; no facility file needs either."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > NESTED_MAX:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ConfigError(f"{name}:{line}: nested too deep: the limit is {NESTED_MAX} levels. {_HELP}")
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ConfigError(f"{name}:{line}: the alias *{event.anchor} is not taken: write it out. {_HELP}")


def _note_lines(node: yaml.Node, at: Location, lines: dict[Location, int], name: str) -> None:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            _note_lines(item, (*at, n), lines, name)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            where = (*at, str(key.value))
            if where in lines:
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: {key.value!r} is there twice. {_HELP}")
            _note_lines(value, where, lines, name)
            lines[where] = key.start_mark.line + 1


def _message(error: ValidationError, lines: dict[Location, int], name: str) -> str:
    """One line per mistake."""
    found = []
    for mistake in error.errors():
        loc = mistake["loc"]
        where = next((lines[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in lines), 1)
        path = ".".join(str(part) for part in loc) or "the file"
        found.append(f"{name}:{where}: {path}: {_reason(mistake['type'], mistake['msg'], mistake['input'], loc)}")
    return "\n".join([*found, _HELP])


def _reason(kind: str, message: str, value: object, loc: Location) -> str:
    if kind == "extra_forbidden":
        known = list(_model_at(loc[:-1]).model_fields)
        near = nearest(str(loc[-1]), known, 0.5)
        return "unknown key" + (f"; did you mean {near!r}?" if near else f"; known are {', '.join(known)}")
    if kind == "missing":
        return "is missing"
    message = message.removeprefix("Value error, ")
    return message if isinstance(value, dict | list) else f"{value!r}: {message}"


def _model_at(loc: Location) -> type[BaseModel]:
    """The model whose keys stand at a place of the document."""
    model: type[BaseModel] = FacilityFile
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)
