"""Is a text a regular expression of RE2, the only kind that Envoy runs?

Python's `re` accepts what RE2 does not (look-around, back-references, possessive and atomic groups, big repetitions)
and the reverse. Envoy rejects a whole RouteConfiguration for one bad expression, so pilot has to know. Source:
https://github.com/google/re2/wiki/Syntax. A recogniser: builds nothing, looks nothing up.
"""

import re

MAX_REPEAT = 1000
MAX_DEPTH = 200
"""Nesting that is taken as an expression; RE2's own limit is higher, Python's stack is not."""

_REPEAT = re.compile(r"\{(\d{1,9})(,(\d{1,9})?)?\}")
_FLAGS_ALONE = re.compile(r"\(\?[imsU]*(?:-[imsU]+)?\)")
_FLAGS = re.compile(r"\(\?[imsU]*(?:-[imsU]+)?:")
_NAMED = re.compile(r"\(\?P?<\w+>", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]{2}|\{[0-9A-Fa-f]{1,6}\}")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|$)", re.DOTALL)
_PROPERTY = re.compile(
    r"[CLMNPSZ]|\{\^?(?:C[cfos]?|L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?|Any|Arabic|Armenian|Bengali"
    r"|Common|Cyrillic|Devanagari|Georgian|Greek|Han|Hangul|Hebrew|Hiragana|Inherited|Katakana|Latin|Tamil|Thai)\}"
)
"""General categories, and the scripts that people use in host names and paths."""
_POSIX = re.compile(r"\[:\^?(alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]")
_OPERATORS = frozenset("*+?")
_PERL_CLASSES = frozenset("dDsSwW")
_CONTROLS = frozenset("afnrtv")
_ASSERTIONS = frozenset("AbBCz")
_SET = -1
"""What a class such as `\\d` counts as where a single character is wanted."""


class _Re2Error(ValueError):
    """The text is no expression."""


class _Parser:
    """Recursive descent over the text. Every method leaves `at` behind what it has read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _peek_operator(self) -> bool:
        return self._peek() in _OPERATORS or _REPEAT.match(self.text, self.at) is not None

    def _accept(self, word: str) -> bool:
        found = self.text.startswith(word, self.at)
        self.at += len(word) if found else 0
        return found

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def _code(self, found: re.Match[str] | None, base: int) -> int:
        if found is None:
            raise _Re2Error
        code = int(found[0].strip("{}"), base)
        if code > 0xFF:  # Envoy matches bytes
            raise _Re2Error
        return code

    def parse(self) -> None:
        self._alternatives(0)
        if self.at != len(self.text):
            raise _Re2Error  # a closing parenthesis too many

    def _alternatives(self, depth: int) -> int:
        """Returns how often the worst repetition inside is multiplied."""
        worst = 1
        while self.at < len(self.text) and self._peek() != ")":
            if self._accept("|"):
                continue
            worst = max(worst, self._piece(depth))
        return worst

    def _piece(self, depth: int) -> int:
        if self._take(_FLAGS_ALONE) is not None:
            return 1
        if (quoted := self._take(_QUOTED)) is not None:
            return self._repetitions(1) if quoted[1] else 1
        return self._repetitions(self._atom(depth))

    def _repetitions(self, inner: int) -> int:
        """At most one operator, with an optional `?`; nested counts multiply, and so does their price."""
        times = 1
        if self._accept("*") or self._accept("+") or self._accept("?"):
            repeated = True
        elif (count := self._take(_REPEAT)) is not None:
            low = int(count[1])
            high = int(count[3]) if count[3] else low
            if low > MAX_REPEAT or high > MAX_REPEAT or high < low:
                raise _Re2Error
            times, repeated = max(high, 1), True
        else:
            repeated = False
        if repeated:
            self._accept("?")
            if self._peek_operator():
                raise _Re2Error
        if times * inner > MAX_REPEAT:
            raise _Re2Error
        return times * inner

    def _atom(self, depth: int) -> int:
        if self._peek_operator():
            raise _Re2Error  # nothing to repeat
        char = self._peek()
        if char == "(":
            return self._group(depth + 1)
        if char == "[":
            self._class()
        elif char == "\\":
            self._escape(in_class=False)
        else:
            self.at += 1
        return 1

    def _group(self, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise _Re2Error
        if self._take(_NAMED) is None and self._take(_FLAGS) is None:
            self.at += 1
            if self._peek() == "?":
                raise _Re2Error  # look-around, comments, conditions, atomic groups
        worst = self._alternatives(depth)
        if not self._accept(")"):
            raise _Re2Error
        return worst

    def _class(self) -> None:
        self.at += 1
        self._accept("^")
        first = True
        while first or not self._accept("]"):
            if self.at >= len(self.text):
                raise _Re2Error
            first = False
            if self._take(_POSIX) is not None:
                continue
            low = self._class_member()
            follows = self.text[self.at + 1 : self.at + 2]
            if low != _SET and self._peek() == "-" and follows not in ("", "]"):
                self.at += 1
                if self._class_member() < low:  # a class is less than any character
                    raise _Re2Error

    def _class_member(self) -> int:
        if self._peek() == "\\":
            return self._escape(in_class=True)
        if not self._peek() or self.text.startswith("[:", self.at):
            raise _Re2Error
        self.at += 1
        return ord(self.text[self.at - 1])

    def _escape(self, in_class: bool) -> int:
        """Returns the character's code, `_SET` for classes and assertions."""
        self.at += 1
        char = self._peek()
        if not char:
            raise _Re2Error
        if (octal := self._take(_OCTAL)) is not None:
            return self._code(octal, 8)
        self.at += 1
        if char == "x":
            return self._code(self._take(_HEX), 16)
        if char in "pP":
            if self._take(_PROPERTY) is None:
                raise _Re2Error
            return _SET
        if char in _PERL_CLASSES or (char in _ASSERTIONS and not in_class):
            return _SET
        if char in _CONTROLS:
            return ord({"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}[char])
        if ord(char) >= 0x80 or char.isalnum():
            raise _Re2Error  # back-references and unknown letters
        return ord(char)


def is_re2(text: str) -> bool:
    """True if Envoy can compile the expression."""
    try:
        _Parser(text).parse()
    except _Re2Error:
        return False
    return True
