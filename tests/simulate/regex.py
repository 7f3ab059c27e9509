"""RE2 expressions with Python's `re`: the part of the syntax that means the same in both, after small translations.

Full matches are the same whatever the order of alternatives; replacements follow RE2's `GlobalReplace`.
"""

import re
from functools import cache

from tests.simulate.fields import UnsupportedError

_TRANSLATED = re.compile(
    r"\\Q(.*?)(?:\\E|\Z)|\\z|\\.|\[\[:(\^?)([a-z]+):\]\]|\(\?<(?=[A-Za-z_])|\(\?[a-zA-Z-]+\)|\[:|\$", re.S
)
_POSIX = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\t\n\v\f\r ",
    "word": r"\w", "xdigit": "0-9A-Fa-f", "blank": r"\t ", "punct": r"!-/:-@[-`{-~",
}  # fmt: skip


def _translate(found: re.Match[str]) -> str:
    piece = found[0]
    if piece.startswith(r"\Q"):
        return re.escape(found[1])
    if piece in (r"\z", "$"):
        return r"\Z"
    if piece.startswith("["):
        if found[3] not in _POSIX:
            raise UnsupportedError(f"the class {piece} in an expression")
        return f"[{found[2]}{_POSIX[found[3]]}]"
    if piece.startswith("(?<"):
        return "(?P<"
    if piece.startswith("(?"):
        if found.start():
            raise UnsupportedError(f"flags within an expression: {piece}")
        return piece
    if piece.startswith("\\") and piece[1] in "pPC":
        raise UnsupportedError(f"{piece} in an expression")
    return piece


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The expression.

    Raises:
        UnsupportedError: Python cannot say the same.
    """
    try:
        return re.compile(_TRANSLATED.sub(_translate, pattern), re.ASCII)
    except re.error as error:
        raise UnsupportedError(f"the expression {pattern!r}: {error}") from None


def full_match(pattern: str, value: str) -> bool:
    """RE2::FullMatch."""
    return compiled(pattern).fullmatch(value) is not None


def _expand(found: re.Match[str], rewrite: str) -> str:
    r"""`\0` is the whole match, `\1` to `\9` are groups, `\\` is a backslash."""

    def piece(escape: re.Match[str]) -> str:
        if escape[1] == "\\":
            return "\\"
        return found[int(escape[1])] or ""

    return re.sub(r"\\([0-9\\])", piece, rewrite)


def replace_all(pattern: str, value: str, rewrite: str) -> str:
    """RE2::GlobalReplace: no empty match right behind a match; nothing at all if a group is named that is not there."""
    out, at, last = [], 0, -1
    expression = compiled(pattern)
    if any(int(group) > expression.groups for group in re.findall(r"\\(?:\\|(\d))", rewrite) if group):
        return value
    while at <= len(value):
        found = expression.search(value, at)
        if found is None:
            break
        out.append(value[at : found.start()])
        if found.start() == last and found.end() == found.start():
            out.append(value[found.start() : found.start() + 1])
            at = found.start() + 1
            continue
        out.append(_expand(found, rewrite))
        at = last = found.end()
    return "".join(out) + value[at:]
