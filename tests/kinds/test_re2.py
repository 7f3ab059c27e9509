import os
import random
from pathlib import Path

import pytest

from pypilot.kinds.re2 import MAX_DEPTH, is_re2
from tests.compile.routes.envoy import accepts, configuration

GOOD = [
    *(r"/a.*", r"a*?", r"a{2}?", r"a{1000}", r"(a{10}){100}", r"a{,5}", r"a{", r"}", r"a|", r"|", r"()", r"(?:)"),
    *(r"(?i)a", r"a(?i)b", r"(?i-s:a)", r"(?P<n>a)", r"(?<n>a)", r"(?P<n>a)(?P<n>b)", r"\Qa*b\E*", r"\Qab", r"^*"),
    *(r"[a-z]", r"[]a]", r"[^]a]", r"[a-]", r"[-a]", r"[a-b-c]", r"[\d-z]", r"[[:alpha:]]", r"[a[b]", r"[\x41-\x5A]"),
    *(
        r"\A\bx\B\z",
        r"\C",
        r"\pL",
        r"\p{Greek}",
        r"\p{^Lu}",
        r"\x41",
        r"\x{ff}",
        r"\0",
        r"\123",
        r"\a\f\n\r\t\v",
        r"\_",
    ),
    *(r"^/(v1|v2)/[^/]+$", r"\d+(?:\.\d+)?", r"é+"),
]
BAD = [
    *(r"*", r"+a", r"a**", r"a*??", r"a++", r"a{2}{3}", r"{2}", r"a{1001}", r"a{5,2}", r"(a{10}){101}", r"a|*", r"(*)"),
    *(r"(", r")", r"a)", r"(?", r"(?=a)", r"(?!a)", r"(?<=a)", r"(?<!a)", r"(?>a)", r"(?#c)", r"(?P=n)", r"(?x)a"),
    *(r"(?P<>b)", r"(?P<a-b>b)", r"(a)?(?(1)b|c)", r"(?i)*"),
    *(r"[", r"[]", r"[^]", r"[z-a]", r"[a-\d]", r"[[:foo:]]", r"[\b]"),
    *("\\", r"\1", r"\8", r"\Z", r"\e", r"\h", r"\u0041", r"\x4", r"\x{100}", r"\x{}", r"\400", r"\p", r"\p{Foo}"),
    "(" * (MAX_DEPTH + 1) + ")" * (MAX_DEPTH + 1),
]


@pytest.mark.parametrize("text", GOOD)
def test_expressions(text: str) -> None:
    assert is_re2(text)


@pytest.mark.parametrize("text", BAD)
def test_no_expressions(text: str) -> None:
    assert not is_re2(text)


def matching(texts: list[str]) -> dict[str, object]:
    routes = [{"match": {"safe_regex": {"regex": text}}, "route": {"cluster": "c"}} for text in texts]
    return configuration("x", [{"name": "v", "domains": ["*"], "routes": routes}])


@pytest.mark.envoy
def test_envoy_agrees_on_the_good_ones(tmp_path: Path) -> None:
    parts = (
        r"a b / . * + ? | ( ) [ ] ^ $ - {2} {2,} {1,3} { } \d \w \b \. \- \x41 \1 \Q \E (?: (?i) [a-z] [^/] 0 , é \z"
    )
    chance = random.Random(7)
    drawn = ("".join(chance.choices(parts.split(), k=chance.randint(1, 7))) for _ in range(2000))
    good = [*GOOD, *(text for text in drawn if is_re2(text))]
    assert len(good) > 500
    assert accepts([matching(good)], tmp_path, os.environ)


@pytest.mark.envoy
@pytest.mark.parametrize("text", BAD[:-1])
def test_envoy_agrees_on_the_bad_ones(text: str, tmp_path: Path) -> None:
    assert not accepts([matching([text])], tmp_path, os.environ)
