"""Lines of JSON on standard error, in the form of the control plane's own.

The agent has no use for more, and pays for none: structlog brings a terminal library that is 7 MB large.
"""

import json
import logging
from datetime import UTC, datetime

_LOG = logging.getLogger("pypilot.proxy")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds")
        fields = getattr(record, "fields", {})
        level = record.levelname.lower()
        return json.dumps({**fields, "event": record.getMessage(), "level": level, "timestamp": at}, default=str)


def configure(level: str) -> None:
    """Once a process: `debug`, `info`, `warning` or `error`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _LOG.setLevel(level.upper())


def info(event: str, **fields: object) -> None:
    """What happened."""
    _LOG.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """What may pass."""
    _LOG.warning(event, extra={"fields": fields})


def error(event: str, **fields: object) -> None:
    """What needs somebody."""
    _LOG.error(event, extra={"fields": fields})
