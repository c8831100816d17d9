"""The cgminer family's text form: `version`, `pools|0` or `summary+pools` in, fields set apart by commas and bars out.

Read of one piece, as cgminer reads it: what has come first is the request. Source: the API-README of cgminer and BFGMiner.
"""

import re
from typing import Any, Final

Json = dict[str, Any]
_REQUEST: Final = re.compile(rb"[a-z][a-z0-9+_]{0,200}(\|[^\n\0]{0,1000})?[\r\n\0]*")
_SPECIAL: Final = re.compile(r"[\\,|=]")
_ALONE: Final = ("SUMMARY", "VERSION")  # a section that is one row, and begins with its own name


def command_of(buffer: bytes) -> str | None:
    r"""The command of a request in text, without its parameter; None where it is none.

    >>> command_of(b"pools|0\n"), command_of(b"summary+pools"), command_of(b"<html>")
    ('pools', 'summary+pools', None)
    """
    if _REQUEST.fullmatch(buffer) is None:
        return None
    return buffer.rstrip(b"\r\n\0").partition(b"|")[0].decode()


def text_of(reply: Json) -> bytes:
    r"""A reply, of one command or of several, as text.

    >>> text_of({"STATUS": [{"STATUS": "S", "Code": 22}], "VERSION": [{"API": "3.1"}], "id": 1})
    b'STATUS=S,Code=22|VERSION,API=3.1|\x00'
    """
    if "STATUS" in reply:
        return _sections(reply).encode() + b"\0"
    joined = ((name, one[0]) for name, one in reply.items() if isinstance(one, list))
    return "".join(f"CMD={name}|{_sections(one)}" for name, one in joined).encode() + b"\0"


def _sections(reply: Json) -> str:
    rows = ((name, row) for name, value in reply.items() if isinstance(value, list) for row in value)
    return "".join((f"{name}," if name in _ALONE else "") + _row(row) + "|" for name, row in rows)


def _row(row: Json) -> str:
    return ",".join(f"{name}={_value(value)}" for name, value in row.items())


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _SPECIAL.sub(r"\\\g<0>", value) if isinstance(value, str) else str(value)
