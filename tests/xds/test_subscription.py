"""The wildcard and naming rules, one row a sentence of the specification.

Section titles are those of https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

import pytest

from pypilot.xds.subscription import Asked, Subscription

HINTS = "How the client specifies what resources to return"
UNSUBSCRIBE = "Unsubscribing From Resources"
DELTA_SUBSCRIBE = "Subscribing to Resources"
DELTA_UNSUBSCRIBE = "Unsubscribing from Resources"


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SOTW = [
    # section, legacy type, requests in order, wildcard after, names after, asked by the last one
    (HINTS, True, [""], True, "", Asked(everything=True)),
    (HINTS, True, ["", ""], True, "", Asked()),
    (HINTS, True, ["", "* A"], True, "A", Asked(names=names("A"))),
    (HINTS, True, ["", "* A", "A"], False, "A", Asked()),
    (HINTS, True, ["", "* A", "A", ""], False, "", Asked()),
    (HINTS, True, ["", "A"], False, "A", Asked(names=names("A"))),
    (HINTS, True, ["A", ""], False, "", Asked()),
    (HINTS, True, ["A", "", "*"], True, "", Asked(everything=True)),
    (HINTS, True, ["*"], True, "", Asked(everything=True)),
    (HINTS, True, ["*", ""], False, "", Asked()),
    (HINTS, False, [""], False, "", Asked()),
    (HINTS, False, ["A"], False, "A", Asked(names=names("A"))),
    (HINTS, False, ["A", "A B"], False, "A B", Asked(names=names("B"))),
    (UNSUBSCRIBE, False, ["A B", "A"], False, "A", Asked()),
    (UNSUBSCRIBE, False, ["A B", "A", "A B"], False, "A B", Asked(names=names("B"))),
    (UNSUBSCRIBE, False, ["A", ""], False, "", Asked()),
]


@pytest.mark.parametrize(("section", "legacy", "requests", "wildcard", "after", "asked"), SOTW)
def test_state_of_the_world(section, legacy, requests, wildcard, after, asked):
    subscription = Subscription(legacy)
    for request in requests:
        last = subscription.replace(names(request))
    assert (subscription.wildcard, subscription.names, last) == (wildcard, names(after), asked), section
    assert subscription.active == (wildcard or bool(after))


DELTA = [
    # section, legacy type, (subscribe, unsubscribe) in order, wildcard after, names after, asked by the last one
    (HINTS, True, [("", "")], True, "", Asked(everything=True)),
    (HINTS, True, [("", ""), ("", "")], True, "", Asked()),
    (HINTS, True, [("", ""), ("A", "")], True, "A", Asked(names=names("A"))),
    (HINTS, True, [("", ""), ("A", ""), ("", "*")], False, "A", Asked()),
    (HINTS, True, [("", ""), ("A", ""), ("", "*"), ("", "A")], False, "", Asked()),
    (HINTS, True, [("", ""), ("A", ""), ("", "*"), ("", "A"), ("", "")], False, "", Asked()),
    (HINTS, True, [("", ""), ("", "*"), ("", "")], False, "", Asked()),
    (HINTS, True, [("*", "")], True, "", Asked(everything=True)),
    (HINTS, True, [("A", ""), ("", "")], False, "A", Asked()),
    (HINTS, False, [("", "")], False, "", Asked()),
    (DELTA_SUBSCRIBE, False, [("A", ""), ("A B", "")], False, "A B", Asked(names=names("A B"))),
    (DELTA_SUBSCRIBE, True, [("*", ""), ("*", "")], True, "", Asked(everything=True)),
    (DELTA_UNSUBSCRIBE, False, [("A B", ""), ("", "A")], False, "B", Asked()),
    (DELTA_UNSUBSCRIBE, False, [("A", ""), ("", "X")], False, "A", Asked()),
    (DELTA_UNSUBSCRIBE, True, [("* A", ""), ("", "A")], True, "", Asked(names=names("A"))),
    (DELTA_UNSUBSCRIBE, True, [("*", ""), ("", "A")], True, "", Asked()),
    (DELTA_UNSUBSCRIBE, True, [("* A", ""), ("", "* A")], False, "", Asked()),
    (DELTA_UNSUBSCRIBE, False, [("A", ""), ("A", "A")], False, "A", Asked(names=names("A"))),
]


@pytest.mark.parametrize(("section", "legacy", "requests", "wildcard", "after", "asked"), DELTA)
def test_incremental(section, legacy, requests, wildcard, after, asked):
    subscription = Subscription(legacy)
    for subscribe, unsubscribe in requests:
        last = subscription.edit(names(subscribe), names(unsubscribe))
    assert (subscription.wildcard, subscription.names, last) == (wildcard, names(after), asked), section


def test_covers():
    subscription = Subscription(legacy=False)
    subscription.replace(names("A B"))
    assert subscription.covers("A")
    assert not subscription.covers("C")
    assert subscription.covered(names("B C")) == names("B")
    subscription.replace(names("*"))
    assert subscription.covered(names("B C")) == names("B C")
