"""Structured logs: one JSON object a line, with secrets taken out."""

import logging
import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

import structlog

from hcp_pipelines.runtime.spans import trace_id_of

_SECRET_KEY = re.compile(r"password|passwd|secret|token|api_?key|authorization", re.IGNORECASE)
KEYS_REMEMBERED = 1_000  # names in the code; libraries add few
_SECRET_TEXT = re.compile(r"(password=|://[^:/@\s]+:)[^\s@&]+", re.IGNORECASE)


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what looks like a secret, by its key or inside a text."""
    for key, value in event.items():
        if _is_secret(key):
            event[key] = "…"
        elif isinstance(value, str) and ("=" in value or "://" in value):  # else no pattern fits: most texts are short
            event[key] = _SECRET_TEXT.sub(r"\1…", value)
    return event


@lru_cache(KEYS_REMEMBERED)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def add_trace(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the trace of the tick that a line is about."""
    tick_id = event.get("tick_id")
    if isinstance(tick_id, int) and tick_id > 0:
        event["trace_id"] = f"{trace_id_of(tick_id):032x}"
    return event


def configure_logs(process: str, level: str) -> structlog.stdlib.BoundLogger:
    """Log JSON lines to standard output, those of libraries included; the process's logger."""
    number = getattr(logging, level.upper())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.format_exc_info,
        add_trace,
        redact,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for noisy in ("httpx", "httpcore", "asyncio", "psycopg.pool"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it names neither host nor unit; our errors do
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=False,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(process).bind(process=process)
    return logger
