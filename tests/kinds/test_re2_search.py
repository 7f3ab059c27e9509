"""Searches say what Python's `re` says where both know the expression, and end soon where it would not."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.kinds.re2_search import compile_search

ATOMS = ["a", "b", "1", r"\.", ".", "[ab]", "[^a]", r"\d", r"\w", "[0-9.]", "^", "$", r"\b", "(?:ab)", r"\Aa", r"b\B"]
REPEATS = ["", "", "*", "+", "?", "{2}", "{1,2}", "{0,3}", "*?"]
ATOM = st.sampled_from(ATOMS)


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(parts, parts).map("".join),
        st.tuples(parts, parts).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        st.tuples(parts, st.sampled_from(REPEATS)).map(lambda both: f"({both[0]}){both[1]}"),
        parts.map(lambda part: f"(?i:{part})"),
    )


EXPRESSION = st.recursive(ATOM, joined, max_leaves=6)


@settings(max_examples=500, deadline=None)
@given(EXPRESSION, st.text("abAB1.", max_size=6))
def test_as_python_has_it(expression: str, text: str) -> None:
    search = compile_search(expression)
    assert search is not None
    assert search.found_in(text) == (re.search(expression.replace("$", r"\Z"), text) is not None)


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        (r"^1\.30.*", "1.30.1", True),
        (r"^1\.3$", "1.30.1", False),
        (r"^1\.(29|30)(\.\d+)*$", "1.30.1", True),
        (r"(?i)DEV", "1.30-dev", True),
        (r"a(?i)B(?-i)c", "abc", True),
        (r"a(?i)B(?-i)C", "abc", False),
        (r"\Q1.3\E\d", "1.30", True),
        (r"\Q1.3\E\d", "1x30", False),
        (r"\Q12\E{2}", "122", True),
        (r"\Q12\E{2}", "12", False),
        (r"[[:digit:]]+\.[[:alpha:]]", "30.x", True),
        (r"[a[b]", "[", True),
        (r"[]a]", "]", True),
        (r"\x31\x{2e}3", "1.30", True),
        (r"\C\z", "é", True),
        (r"a{,5}", "a{,5}", True),
        (r"(?P<major>1)\.", "1.30", True),
        (r"(?s).", "\n", True),
        (r".", "\n", False),
        (r"1$", "1\n", False),
        (r"(?m)^3", "1\n3", True),
        ("", "", True),
        (r"|x", "", True),
    ],
)
def test_expressions(expression: str, text: str, found: bool) -> None:
    search = compile_search(expression)
    assert search is not None
    assert search.found_in(text) == found


@pytest.mark.parametrize(
    "expression", ["(?=a)", "(", r"\pL", r"[\p{Greek}]", "[[:cntrl:]]", r"\1", "(" * 50 + ")" * 50]
)
def test_what_is_not_read(expression: str) -> None:
    assert compile_search(expression) is None


@pytest.mark.parametrize("expression", ["^(a+)+b", "^(a|a)*b", "^((a*)*)*b", "^(a?){60}b", "^(a|aa|a{0,9})+b"])
def test_no_expression_takes_for_ever(expression: str) -> None:
    """Each of these would keep `re` busy for years."""
    search = compile_search(expression)
    assert search is not None
    assert not search.found_in("a" * 80)
