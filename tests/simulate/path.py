"""What the connection manager makes of a path and a host before anything is matched.

Source: `normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`, `strip_any_host_port`,
`strip_matching_host_port` of HttpConnectionManager.
"""

import re

from tests.simulate.fields import Message, UnsupportedError, flag, text

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPED = frozenset(' "<>`{}^|')
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


def _canonical_text(path: str) -> str:
    """Escapes of unreserved characters are resolved; what may not stand in a path is escaped."""

    def resolved(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16))
        return char if char in _UNRESERVED else found[0]

    path = _ESCAPE.sub(resolved, path.replace("\\", "/"))
    return "".join(
        "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
        if char in _ESCAPED or not 0x20 < ord(char) < 0x7F
        else char
        for char in path
    )


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4."""
    out: list[str] = []
    segments = path.split("/")[1:]
    for i, segment in enumerate(segments):
        last = i == len(segments) - 1
        if segment == "..":
            if out:
                out.pop()
            if last:
                out.append("")
        elif segment == ".":
            if last:
                out.append("")
        else:
            out.append(segment)
    return "/" + "/".join(out)


def normalized(path: str, manager: Message) -> str | None:
    """The path with its query; None if the request is refused with 400."""
    if "#" in path:
        return None
    pure, mark, query = path.partition("?")
    action = text(manager, "path_with_escaped_slashes_action", "IMPLEMENTATION_SPECIFIC_DEFAULT")
    if action == "UNESCAPE_AND_FORWARD":
        pure = re.sub(r"%2[Ff]", "/", re.sub(r"%5[Cc]", r"\\", pure))
    elif action not in ("IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED"):
        raise UnsupportedError(f"path_with_escaped_slashes_action {action}")
    if flag(manager, "normalize_path"):
        pure = _without_dots(_canonical_text(pure))
    if flag(manager, "merge_slashes"):
        pure = re.sub("//+", "/", pure)
    return f"{pure}{mark}{query}"


def port_start(host: str) -> int:
    """Where `:PORT` begins in a host; -1 if it has none."""
    at = host.rfind(":")
    return at if at > host.rfind("]") and at + 1 < len(host) else -1


def stripped_host(host: str, port: int, manager: Message) -> str:
    """The host without the port, where the connection manager takes it away."""
    at = port_start(host)
    if at < 0:
        return host
    if flag(manager, "strip_any_host_port"):
        return host[:at]
    matching = host[at + 1 :] == str(port)
    return host[:at] if matching and flag(manager, "strip_matching_host_port") else host
