"""Renders the few of Helm's template words that the chart keeps to: no helm is at hand here, so this is what reads it.

`{{ .a.b }}`, `{{ $.a.b }}`, `| quote`, `required "…"`, `{{- if X }}`, `{{- if eq X "…" }}`, `{{- range X }}`, `{{- end }}`.
Anything else fails.
"""

import json
import re
from pathlib import Path
from typing import Any

_TAG = re.compile(r"(\s*)\{\{(-?) (.*?) \}\}")
_VALUE = re.compile(r'(?:required "(?P<needed>[^"]*)" )?(?P<path>\$?\.[\w.]+)(?P<quote> \| quote)?')


def render(template: Path, root: dict[str, Any]) -> str:
    """The template's text with the values of `root` (`Values`, `Release`)."""
    tokens: list[tuple[str, str]] = []
    text, end = template.read_text(), 0
    for found in _TAG.finditer(text):
        space = "" if found[2] else found[1]
        tokens += [("text", text[end : found.start()] + space), ("tag", found[3])]
        end = found.end()
    out, rest = _block([*tokens, ("text", text[end:])], root, root)
    assert not rest, f"{template.name}: an {{{{ end }}}} too many"
    return out


def _block(tokens: list[tuple[str, str]], root: Any, here: Any) -> tuple[str, list[tuple[str, str]]]:
    out = ""
    while tokens:
        (kind, word), tokens = tokens[0], tokens[1:]
        if kind == "text":
            out += word
        elif word == "end":
            return out, tokens
        elif word.startswith("range "):
            body = tokens
            for item in _lookup(word.removeprefix("range "), root, here):
                out += _block(body, root, item)[0]
            tokens = _skip(body)
        elif word.startswith("if "):
            body = tokens
            if _holds(word.removeprefix("if "), root, here):
                out += _block(body, root, here)[0]
            tokens = _skip(body)
        else:
            out += _value(word, root, here)
    return out, []


def _skip(tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
    depth = 1
    for n, (kind, word) in enumerate(tokens):
        if kind == "tag":
            depth += word.startswith(("if ", "range ")) - (word == "end")
            if depth == 0:
                return tokens[n + 1 :]
    raise AssertionError("an {{ end }} is missing")


def _holds(condition: str, root: Any, here: Any) -> bool:
    if condition.startswith("eq "):
        _, path, wanted = condition.split(" ", 2)
        return bool(_lookup(path, root, here) == json.loads(wanted))
    return bool(_lookup(condition, root, here))


def _value(word: str, root: Any, here: Any) -> str:
    found = _VALUE.fullmatch(word)
    assert found, f"the renderer does not know {word!r}"
    value = _lookup(found["path"], root, here)
    if found["needed"] and not value:
        raise ValueError(found["needed"])
    assert value is not None, f"{word}: no such value"
    return json.dumps(str(value)) if found["quote"] else str(value)


def _lookup(path: str, root: Any, here: Any) -> Any:
    found = root if path.startswith("$") else here
    for part in path.lstrip("$").strip(".").split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
