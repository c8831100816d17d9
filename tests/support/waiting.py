"""Waiting for what a test needs; where it does not come, what was there instead: a failure is understood from its log."""

import ast
import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator

from hcp_pipelines.domain.errors import StorageError

SHOWN = 600  # signs of each value
FIRST_PAUSE_S, LAST_PAUSE_S = 0.01, 0.03
LOOPS = (ast.GeneratorExp, ast.ListComp)


async def until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Until it is so. The time is for what hangs: it costs nothing where the condition comes, on however busy a machine.

    What takes long is looked at less often: conditions ask databases, and take the CPU from what they wait for.
    """
    deadline, pause_s = asyncio.get_running_loop().time() + seconds, FIRST_PAUSE_S
    while not _is_so(condition):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; {seen(condition)}")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.1, LAST_PAUSE_S)


def _is_so(condition: Callable[[], object]) -> bool:
    """A server that is not reached in its five seconds says neither yes nor no."""
    with contextlib.suppress(StorageError):
        return bool(condition())
    return False


def seen(condition: Callable[[], object]) -> str:
    """What a condition compares, as it is now: `site.events('vanished') = []`."""
    names = inspect.getclosurevars(condition) if inspect.isfunction(condition) else None
    body = _body(condition)
    if names is None or body is None:
        return f"it says {_shown(condition)}"
    defaults = {name: p.default for name, p in inspect.signature(condition).parameters.items()}
    known = {**names.builtins, **names.globals, **names.nonlocals, **defaults}
    parts = dict.fromkeys(ast.unparse(node) for node in _compared(body))
    return ", ".join(f"{part} = {_shown(lambda part=part: eval(part, known))}" for part in parts)


def _body(condition: Callable[[], object]) -> ast.expr | None:
    """A lambda's expression; its lines may begin and end in the middle of a call."""
    try:
        text = inspect.getsource(condition)
    except (OSError, TypeError):
        return None
    text = text[text.find("lambda") :]
    for end in range(len(text), 0, -1):
        try:
            tree = ast.parse(f"({text[:end]}\n)", mode="eval")
        except (SyntaxError, ValueError):
            continue
        return next((node.body for node in ast.walk(tree) if isinstance(node, ast.Lambda)), None)
    return None


def _compared(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from _compared(part)
        case ast.UnaryOp(operand=part):
            yield from _compared(part)
        case ast.Compare(left=left, comparators=others):
            for part in (left, *others):
                yield from _compared(part)
        case ast.Call(func=ast.Name(id="all" | "any" | "len" | "sum"), args=[part]) if not isinstance(part, LOOPS):
            yield from _compared(part)
        case ast.Constant():
            return
        case _:
            yield node


def _shown(value: Callable[[], object]) -> str:
    try:
        return repr(value())[:SHOWN]
    except Exception as error:
        return f"({error!r})"
