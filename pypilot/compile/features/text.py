"""Which texts Envoy takes as names, paths and hosts."""

import re

_UNSENDABLE = re.compile(r"[\0\r\n\ud800-\udfff]")


def is_sendable(text: str) -> bool:
    """False for line breaks, which Envoy rejects nearly everywhere, and for lone surrogates, which are no text."""
    return not _UNSENDABLE.search(text)
