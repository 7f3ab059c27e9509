"""Whom the connection manager takes for the original client (`use_remote_address`, `xff_num_trusted_hops`)."""

from ipaddress import ip_address

from tests.simulate.fields import Message, UnsupportedError, flag, items, number
from tests.simulate.model import Connection, Request


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def remote_address(manager: Message, connection: Connection, request: Request) -> str:
    """An address of X-Forwarded-For, counted from the right; the connection's where none is told or trusted."""
    if items(manager, "original_ip_detection_extensions"):
        raise UnsupportedError("original_ip_detection_extensions")
    hops = number(manager, "xff_num_trusted_hops")
    if flag(manager, "use_remote_address"):
        if not hops:
            return connection.source
        hops -= 1
    told = [text.strip() for text in (request.value("x-forwarded-for") or "").split(",")]
    found = told[-1 - hops] if hops < len(told) else ""
    return found if _is_address(found) else connection.source
