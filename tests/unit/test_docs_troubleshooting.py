"""docs/troubleshooting.md against the messages in the code: what it quotes is there, what starting can say is quoted."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
STARTING = ("lock.py", "folders.py", "anchor.py", "configuration.py", "platform.py", "status.py")
ERRORS = {"HcpError", "ConfigError", "StorageError", "NotRunningError", "AlreadyRunningError"}


def text_of(node: ast.expr) -> str | None:
    """A string with `…` for what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


@functools.cache
def texts() -> list[str]:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "hcp_pipelines").rglob("*.py") if "_pb2" not in path.name]
    found = (text_of(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.expr))
    return [text for text in found if text]


def raised(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name, arguments = node.exc.func, node.exc.args
            text = text_of(arguments[0]) if arguments else None
            if isinstance(name, ast.Name) and name.id in ERRORS and text:
                yield text


def quoted() -> list[str]:
    """Messages in the first column of the two tables of messages."""
    tables = PAGE.split("## When it does not start")[1]
    return [row[0] for line in tables.splitlines() if (row := re.findall(r"^\| `([^`]+)`", line))]


@pytest.mark.parametrize("message", quoted())
def test_what_the_page_quotes_is_what_the_code_says(message):
    wanted = message.removesuffix("….").removesuffix("…")
    assert any(wanted in text for text in texts()), message


@pytest.mark.parametrize("name", STARTING)
def test_every_reason_not_to_start_is_on_the_page(name):
    known = [message.removesuffix("….").removesuffix("…") for message in quoted()]
    missing = [
        t for t in raised(ROOT / "hcp_pipelines" / "supervisor" / name) if not any(t.startswith(k) for k in known)
    ]
    assert missing == []


def test_every_check_of_the_doctor_is_on_the_page():
    tree = ast.parse((ROOT / "hcp_pipelines" / "supervisor" / "doctor.py").read_text())
    calls = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "Finding"
    ]
    checks = {text for call in calls if call.args and (text := text_of(call.args[0]))}
    table = PAGE.split("## What `hcp doctor` says")[1].split("## When")[0]
    listed = set(re.findall(r"^\| ([\w' ]+?) \|", table, re.MULTILINE)) - {"check"}
    assert len(checks) > 8
    assert checks - {"… devices"} | {"a process's name", "a facility's devices"} == listed
