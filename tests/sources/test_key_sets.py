"""RA-011…016: keys come when they come, stay when they cannot come again, and go when nobody wants them."""

import asyncio
import json

from pypilot.sources.key_sets import FetchError, KeyPace, KeySets, wanted
from pypilot.world.key_sets import KeySource
from tests.world.objects import make
from tests.xds.harness import until

QUICK = KeyPace(refresh=0.01, first_retry=0.005, longest_retry=0.01)


def key_set(*names):
    return json.dumps({"keys": [{"kid": n, "kty": "EC"} for n in names]}).encode()


class Web:
    def __init__(self, **pages):
        self.pages = dict(pages)
        self.asked = []

    async def __call__(self, url, seconds):
        self.asked.append((url, seconds))
        await asyncio.sleep(0)
        page = self.pages.get(url)
        if isinstance(page, Exception):
            raise page
        if page is None:
            raise FetchError(f"{url} answered 404")
        return page


class Told:
    def __init__(self):
        self.known, self.problems, self.changes = {}, (), 0

    def __call__(self, delta, problems):
        self.problems = problems
        self.changes += bool(delta.key_sets)
        for source, text in delta.key_sets.items():
            if text:
                self.known[source] = text
            else:
                del self.known[source]


def authentication(*rules, name="jwt"):
    return make("RequestAuthentication", name, "default", spec={"jwtRules": list(rules)})


A = KeySource("", "https://a/keys")


async def test_keys_are_fetched_and_followed_and_a_new_order_is_no_change():
    web, told = Web(**{A.uri: key_set("1", "2")}), Told()
    keys = KeySets(web, told, QUICK)
    keys.want(wanted([authentication({"issuer": "a", "jwksUri": A.uri, "timeout": "3s"})]))
    await until(lambda: A in told.known)
    assert web.asked[0] == (A.uri, 3.0)
    web.pages[A.uri] = key_set("2", "1")
    asked = len(web.asked)
    await until(lambda: len(web.asked) > asked + 2)
    assert told.changes == 1
    web.pages[A.uri] = key_set("3")
    await until(lambda: "3" in told.known[A])
    await keys.close()


async def test_a_failure_keeps_the_last_keys_and_is_told_until_it_is_over():
    web, told = Web(), Told()
    keys = KeySets(web, told, QUICK)
    keys.want(wanted([authentication({"issuer": "a", "jwksUri": A.uri})]))
    await until(lambda: told.problems)
    (problem,) = told.problems
    assert (problem.field, problem.code, problem.severity) == ("spec.jwtRules[0].jwksUri", "keys", "warning")
    assert "refused" in problem.message
    web.pages[A.uri] = key_set("1")
    await until(lambda: A in told.known and not told.problems)
    for bad in (b"nonsense", b"{}", b'{"keys": 1}', b"\xff\xfe", RuntimeError("odd")):
        web.pages[A.uri] = bad
        await until(lambda: told.problems)
        assert "stay" in told.problems[0].message
        assert told.known[A] == key_set("1").decode()
        web.pages[A.uri] = key_set("1")
        await until(lambda: not told.problems)
    await keys.close()


async def test_an_issuer_says_where_its_keys_are():
    where = "https://b/realm/.well-known/openid-configuration"
    web, told = Web(**{where: json.dumps({"jwks_uri": A.uri}).encode(), A.uri: key_set("1")}), Told()
    keys = KeySets(web, told, QUICK)
    keys.want(wanted([authentication({"issuer": "https://b/realm/"})]))
    source = KeySource("https://b/realm/", "")
    await until(lambda: source in told.known)
    for bad in (b"{}", b"[]", b"nonsense"):
        web.pages[where] = bad
        await until(lambda: told.problems)
        assert told.problems[0].field == "spec.jwtRules[0].issuer"
        web.pages[where] = json.dumps({"jwks_uri": A.uri}).encode()
        await until(lambda: not told.problems)
    await keys.close()


async def test_what_nobody_wants_any_more_is_forgotten_with_its_problems():
    web, told = Web(**{A.uri: key_set("1")}), Told()
    keys = KeySets(web, told, QUICK)
    both = authentication({"issuer": "a", "jwksUri": A.uri}, {"issuer": "b", "jwksUri": "https://b/keys"})
    keys.want(wanted([both]))
    await until(lambda: A in told.known and told.problems)
    keys.want({})
    assert told.known == {}
    assert told.problems == ()
    asked = len(web.asked)
    await asyncio.sleep(0.05)
    assert len(web.asked) == asked


def test_keys_that_are_given_are_not_fetched_and_each_source_is_wanted_once():
    found = wanted(
        [
            authentication({"issuer": "a", "jwks": '{"keys":[]}'}, {"issuer": "b", "jwksUri": A.uri}, name="one"),
            authentication({"issuer": "c", "jwksUri": A.uri}, {"issuer": "d"}, name="two"),
        ]
    )
    assert list(found) == [A, KeySource("d", "")]
    assert found[A].ref.name == "one"
