"""Does an RE2 expression occur in a text? In time that the lengths of both bound, which Python's `re` does not promise.

For short texts that pilot itself has to match (versions). An expression is a tree of nodes; a node says at which
positions it can end if it begins at one, and that is asked once a node and position. Single characters and assertions
are left to `re`. Source: https://github.com/google/re2/wiki/Syntax.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from pypilot.kinds.re2 import is_re2

_LONGEST_TEXT = 256
_DEPTH = 40
_REPEAT = re.compile(r"\{(\d+)(,(\d+)?)?\}")
_GROUP = re.compile(r"\((?:\?(?:P?<\w+>|([imsU]*(?:-[imsU]+)?)([:)])))?")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]+\}|[0-7]{1,3}|.)", re.DOTALL)
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|$)", re.DOTALL)
_POSIX = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:space:]": r"\t\n\v\f\r ",
    "[:upper:]": "A-Z",
    "[:word:]": "0-9A-Za-z_",
    "[:xdigit:]": "0-9A-Fa-f",
}
_EVERYTHING = {"\\C": "(?s:.)", "\\z": r"\Z", "$": r"\Z"}


class UnsupportedError(ValueError):
    """An expression of RE2 with something that is not read here."""


@dataclass(slots=True)
class _Run:
    """One search."""

    text: str
    known: dict[tuple[int, int], frozenset[int]] = field(default_factory=dict)


_Node: TypeAlias = Callable[[_Run, int], frozenset[int]]


def _remembered(node: _Node) -> _Node:
    def ends(run: _Run, start: int) -> frozenset[int]:
        key = (id(node), start)
        found = run.known.get(key)
        if found is None:
            found = run.known[key] = node(run, start)
        return found

    return ends


def _step(node: _Node, run: _Run, starts: Iterable[int]) -> frozenset[int]:
    return frozenset(end for start in starts for end in node(run, start))


def _sequence(nodes: list[_Node]) -> _Node:
    def ends(run: _Run, start: int) -> frozenset[int]:
        found = frozenset((start,))
        for node in nodes:
            found = _step(node, run, found)
        return found

    return _remembered(ends)


def _choice(nodes: list[_Node]) -> _Node:
    return _remembered(lambda run, start: frozenset(end for node in nodes for end in node(run, start)))


def _repeated(node: _Node, low: int, high: int | None) -> _Node:
    def ends(run: _Run, start: int) -> frozenset[int]:
        latest = frozenset((start,))
        for _ in range(low):
            latest = _step(node, run, latest)
        found, left = set(latest), high - low if high is not None else len(run.text) + 1
        while latest and left > 0:
            latest = _step(node, run, latest) - found
            found |= latest
            left -= 1
        return frozenset(found)

    return _remembered(ends)


def _atom(source: str, flags: str) -> _Node:
    """A character, a class or an assertion."""
    chosen = re.ASCII
    for letter, flag in (("i", re.IGNORECASE), ("m", re.MULTILINE), ("s", re.DOTALL)):
        chosen |= flag if letter in flags else 0
    translated = "$" if source == "$" and "m" in flags else _EVERYTHING.get(source, source)
    if source.startswith("[") and len(source) > 1:
        body = re.sub(r"\[:\^?\w+:\]", lambda found: _POSIX.get(found[0], "[:?:]"), source[1:])
        if "[:" in body:
            raise UnsupportedError(source)
        translated = "[" + re.sub(r"\\.|\[", lambda found: "\\[" if found[0] == "[" else found[0], body)
    if re.search(r"\\[pP]", source):
        raise UnsupportedError(source)
    if source.startswith("\\x{"):
        translated = re.escape(chr(int(source[3:-1], 16)))
    try:
        compiled = re.compile(translated, chosen)
    except re.error as error:
        raise UnsupportedError(source) from error

    def ends(run: _Run, start: int) -> frozenset[int]:
        found = compiled.match(run.text, start)
        return frozenset((found.end(),)) if found is not None else frozenset()

    return ends


class _Parser:
    """Reads what `is_re2` has accepted."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def choice(self, flags: str) -> _Node:
        """Alternatives up to the end of the group."""
        self.depth += 1
        if self.depth > _DEPTH:
            raise UnsupportedError("nested too deeply")
        branches: list[list[_Node]] = [[]]
        while self.at < len(self.text) and self.text[self.at] != ")":
            if self.text[self.at] == "|":
                self.at += 1
                branches.append([])
                continue
            flags, node = self._piece(flags)
            if node is not None:
                branches[-1].append(node)
        self.depth -= 1
        return _choice([_sequence(branch) for branch in branches])

    def _piece(self, flags: str) -> tuple[str, _Node | None]:
        """The next part with its repetition; a change of flags alone is no part."""
        if quoted := _QUOTED.match(self.text, self.at):
            self.at = quoted.end()
            letters = [_atom(re.escape(letter), flags) for letter in quoted[1]]
            last = self._repetition(letters.pop()) if letters else None
            return flags, _sequence([*letters, last]) if last is not None else None
        if self.text[self.at] != "(":
            return flags, self._repetition(_atom(self._source(), flags))
        found = _GROUP.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        inner = _changed(flags, found[1]) if found[1] is not None else flags
        if found[2] == ")":
            return inner, None
        node = self.choice(inner)
        self.at += 1
        return flags, self._repetition(node)

    def _source(self) -> str:
        char = self.text[self.at]
        found = _CLASS.match(self.text, self.at) if char == "[" else None
        if char == "\\":
            found = _ESCAPE.match(self.text, self.at)
        source = found[0] if found is not None else char
        self.at += len(source)
        return source if found is not None or source in ".^$" else re.escape(source)

    def _repetition(self, node: _Node) -> _Node:
        rest = self.text[self.at : self.at + 1]
        counted = _REPEAT.match(self.text, self.at)
        if counted is not None:
            self.at = counted.end()
            low = int(counted[1])
            high = low if counted[2] is None else int(counted[3]) if counted[3] else None
        elif rest in ("*", "+", "?") and rest:
            self.at += 1
            low, high = (1 if rest == "+" else 0), (1 if rest == "?" else None)
        else:
            return node
        self.at += self.text.startswith("?", self.at)  # greed changes what is found, not whether
        return _repeated(node, low, high)


def _changed(flags: str, change: str) -> str:
    added, _, removed = change.partition("-")
    return "".join(letter for letter in "ims" if letter in flags + added and letter not in removed)


@dataclass(frozen=True, slots=True)
class Search:
    """A compiled expression."""

    node: _Node

    def found_in(self, text: str) -> bool:
        """True if it occurs anywhere; of a very long text only the beginning is looked at."""
        run = _Run(text[:_LONGEST_TEXT])
        return any(self.node(run, start) for start in range(len(run.text) + 1))


def compile_search(text: str) -> Search | None:
    """The expression, None if it is not one of RE2, or holds something that is not supported."""
    if not is_re2(text):
        return None
    try:
        return Search(_Parser(text).choice(""))
    except UnsupportedError:
        return None
