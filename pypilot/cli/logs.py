"""Logging, configured once a process: for people on a terminal, JSON lines otherwise; always to standard error.

Tracebacks are plain: richer ones print local variables, and a variable may hold a secret.
"""

import logging
import sys
from typing import Any, TextIO

import structlog

from pypilot.settings import LogFormat, LogLevel


def _without_empty(_: Any, __: str, event: Any) -> Any:
    return {key: value for key, value in event.items() if value is not None}


def configure_logs(form: LogFormat = "auto", level: LogLevel = "info", stream: TextIO | None = None) -> None:
    """Set up structlog, and send what libraries log through the standard module the same way."""
    stream = stream or sys.stderr
    is_console = form == "console" or (form == "auto" and stream.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        _without_empty,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_console else "iso", utc=not is_console),
    ]
    rendering: list[Any]
    if is_console:
        plain = structlog.dev.plain_traceback
        rendering = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    keep = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=keep))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
