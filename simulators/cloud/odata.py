"""Filters of Azure's price list: comparisons of texts, joined by `and`, `or`, `not`, brackets. Source: OData 4.01, `$filter`."""

import re
from collections.abc import Callable, Mapping
from typing import Final

Row = Mapping[str, object]
Test = Callable[[Row], bool]
MOST_TOKENS: Final = 400
MOST_DEPTH: Final = 20
_TOKEN: Final = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<word>\w+)|(?P<sign>[(),]))")
_CALLS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "contains": lambda told, part: part in told,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_SIGNS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "eq": lambda told, value: told == value,
    "ne": lambda told, value: told != value,
}


class FilterError(Exception):
    """A filter is none of these."""


def compiled(text: str) -> Test:
    """The test that a filter means; an empty one lets everything through.

    Raises:
        FilterError: it is not understood.

    >>> compiled("(a eq 'x' or a eq 'y') and not startswith(b, 'n')")({"a": "y", "b": "m"})
    True
    """
    if not text.strip():
        return lambda _: True
    reader = _Reader(_tokens(text))
    test = reader.either(0)
    if reader.left():
        raise FilterError
    return test


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    text, at = text.rstrip(), 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(found) >= MOST_TOKENS:
            raise FilterError
        found.append(match[0].strip())
        at = match.end()
    return found


class _Reader:
    """Reads tokens from left to right: `or` binds the least, then `and`, then `not`."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens[::-1]

    def left(self) -> bool:
        """Whether something is left to read."""
        return bool(self._tokens)

    def either(self, depth: int) -> Test:
        tests = [self._both(depth)]
        while self._takes("or"):
            tests.append(self._both(depth))
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _both(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._takes("and"):
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > MOST_DEPTH:
            raise FilterError
        if self._takes("not"):
            inner = self._one(depth + 1)
            return lambda row: not inner(row)
        if self._takes("("):
            inner = self.either(depth + 1)
            self._must(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        word = self._word()
        if word in _CALLS:
            call = _CALLS[word]
            self._must("(")
            field = self._word()
            self._must(",")
            part = self._text()
            self._must(")")
            return lambda row: call(str(row.get(field, "")), part)
        sign = _SIGNS.get(self._word())
        if sign is None:
            raise FilterError
        value = self._value()
        return lambda row: sign(str(row.get(word)), value)

    def _takes(self, token: str) -> bool:
        if self._tokens and self._tokens[-1] == token:
            self._tokens.pop()
            return True
        return False

    def _must(self, token: str) -> None:
        if not self._takes(token):
            raise FilterError

    def _next(self) -> str:
        if not self._tokens:
            raise FilterError
        return self._tokens.pop()

    def _word(self) -> str:
        token = self._next()
        if not token.isidentifier():
            raise FilterError
        return token

    def _text(self) -> str:
        token = self._next()
        if not token.startswith("'"):
            raise FilterError
        return token[1:-1].replace("''", "'")

    def _value(self) -> str:
        """A text, or `true` and `false` as Python writes them."""
        if self._tokens and self._tokens[-1] in {"true", "false"}:
            return self._tokens.pop().title()
        return self._text()
