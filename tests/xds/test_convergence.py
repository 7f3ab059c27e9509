"""Random clients against random worlds: whatever is lost, late, rejected or broken off, a client ends with the truth.

Messages travel in two queues, as on a stream, and every step of client, server and world may fall between two others.
The client follows the specification (nonces, names, wildcards, `initial_resource_versions`) and, like Envoy, warms a
cluster that changed until its endpoints come. When all is drained and every response accepted, it must hold exactly
what it wants of the world. A type that it rejected something of is held against the truth after one more change.
"""

import string
from collections import deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pypilot.wire.types import CLUSTER, ENDPOINT, ROUTE, WILDCARD
from pypilot.xds.delta import DeltaSession
from pypilot.xds.session import DeltaRequest, SotwRequest
from pypilot.xds.shared import Shared
from pypilot.xds.sotw import SotwSession
from tests.xds.builders import World, decode

TYPES = (CLUSTER, ENDPOINT, ROUTE)
NAMES = string.ascii_lowercase[:4]
names_of = st.frozensets(st.sampled_from(NAMES))
contents = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("12"))
types = st.sampled_from(TYPES)


class Wants:
    """What a client wants and holds of one type; survives streams."""

    def __init__(self, type_url):
        self.type_url = type_url
        self.names = frozenset()
        self.wildcard = False
        self.explicit = False  # it names the wildcard `*`, as it must once it has named anything
        self.cache = {}
        self.versions = {}
        self.version = ""
        self.rejected = False
        self.asked_before = False

    def covers(self, name):
        return self.wildcard or name in self.names

    def forget_uncovered(self):
        self.cache = {n: t for n, t in self.cache.items() if self.covers(n)}
        self.versions = {n: v for n, v in self.versions.items() if self.covers(n)}


class Machine(RuleBasedStateMachine):
    delta: bool

    @initialize(data=st.fixed_dictionaries(dict.fromkeys(TYPES, contents)), names=names_of, legacy=st.booleans())
    def begin(self, data, names, legacy):
        self.shared = Shared()
        self.world = World()
        for type_url, resources in data.items():
            self.put(type_url, resources)
        self.wants = {t: Wants(t) for t in TYPES}
        self.warming = set()
        self.new_stream()
        if legacy:
            self.client_wants_everything(CLUSTER)
        for type_url in (ENDPOINT, ROUTE):
            self.client_changes_names(type_url, names)

    def put(self, type_url, resources):
        """Split over chunks, so that whole, partial and shared chunks all occur."""
        low = {n: t for n, t in resources.items() if n < "c"}
        high = {n: t for n, t in resources.items() if n >= "c"}
        self.world.put(type_url, low, high)
        self.truth = getattr(self, "truth", {}) | {type_url: dict(resources)}

    def new_stream(self):
        self.session = DeltaSession(self.shared) if self.delta else SotwSession(self.shared)
        self.to_server, self.to_client = deque(), deque()
        self.nonces = {}

    # The world

    @rule(type_url=types, resources=contents)
    def world_changes(self, type_url, resources):
        self.put(type_url, resources)

    @rule(type_url=types, name=st.sampled_from(NAMES), text=st.sampled_from("12"))
    def one_resource_changes(self, type_url, name, text):
        self.put(type_url, self.truth[type_url] | {name: text})

    # The server

    @precondition(lambda self: self.to_server)
    @rule()
    def server_reads(self):
        request = self.to_server.popleft()
        if self.delta:
            self.session.on_request(request, self.world.current(request.type_url))
        else:
            self.session.on_request(request)

    @rule(missing=st.frozensets(types, max_size=1))
    def server_pushes(self, missing=frozenset()):
        responses = self.session.push(lambda t: None if t in missing else self.world.current(t))
        self.to_client.extend(decode(r, self.delta) for r in responses)

    @precondition(lambda self: self.session.is_waiting)
    @rule()
    def patience_ends(self):
        """A client that never says that it has its new clusters gets the rest all the same."""
        self.session.wait_no_longer()
        self.server_pushes()

    # The client

    @precondition(lambda self: self.to_client)
    @rule(accept=st.sampled_from([True, True, True, False]))
    def client_reads(self, accept=True):
        response = self.to_client.popleft()
        wants = self.wants[response.type_url]
        self.nonces[response.type_url] = response.nonce
        if accept:
            self.apply(wants, response)
        else:
            wants.rejected = True
        self.send(wants, error=None if accept else "no", nonce=response.nonce)

    def apply(self, wants, response):
        got = {n: t for n, t in response.resources.items() if wants.covers(n)}
        if wants.type_url == CLUSTER:
            self.warming |= {n for n, t in got.items() if wants.cache.get(n) != t}
        if wants.type_url == ENDPOINT:
            self.warming -= set(got)
        if self.delta:
            wants.cache |= got
            wants.versions |= {n: response.versions[n] for n in got}
            for name in response.removed:
                wants.cache.pop(name, None)
                wants.versions.pop(name, None)
        elif wants.type_url in WILDCARD:
            wants.cache = got
        else:
            wants.cache |= got
        wants.version = response.version

    def send(self, wants, *, subscribe=frozenset(), unsubscribe=frozenset(), error=None, nonce="", initial=None):
        if self.delta:
            request = DeltaRequest(wants.type_url, subscribe, unsubscribe, nonce, error, initial or {})
        else:
            names = wants.names | ({"*"} if wants.wildcard and wants.explicit else set())
            nonce = self.nonces.get(wants.type_url, "")
            request = SotwRequest(wants.type_url, self.shared.names(names), wants.version, nonce, error)
        self.to_server.append(request)
        wants.asked_before = True

    @rule()
    def client_wants_everything(self, type_url=CLUSTER):
        wants = self.wants[type_url]
        if wants.wildcard:
            return
        legacy = not wants.asked_before
        wants.wildcard, wants.explicit = True, not legacy
        wants.version = ""  # that of a part is not the version of everything
        self.send(wants, subscribe=frozenset() if legacy else frozenset("*"))

    @rule(type_url=types, names=names_of)
    def client_changes_names(self, type_url, names):
        wants = self.wants[type_url]
        if names == wants.names:
            return
        added, dropped = names - wants.names, wants.names - names
        wants.names = names
        wants.explicit = True
        if not self.delta:
            self.forget(wants)
            self.send(wants)
            return
        if not wants.wildcard:
            self.forget(wants)
        self.send(wants, subscribe=added, unsubscribe=dropped)

    @precondition(lambda self: self.delta)
    @rule(type_url=types)
    def client_asks_again(self, type_url):
        """It forgot what it holds (a state-of-the-world client cannot say so)."""
        wants = self.wants[type_url]
        if wants.names:
            for name in wants.names:
                wants.cache.pop(name, None)
                wants.versions.pop(name, None)
            self.send(wants, subscribe=wants.names)

    @rule()
    def client_drops_the_wildcard(self, type_url=CLUSTER):
        wants = self.wants[type_url]
        if not wants.wildcard or (not self.delta and not wants.explicit):
            return  # a legacy wildcard ends only with names
        wants.wildcard, wants.explicit = False, True
        self.forget(wants)
        self.send(wants, unsubscribe=frozenset("*"))

    def forget(self, wants):
        wants.forget_uncovered()
        wants.version = ""
        if wants.type_url == CLUSTER:
            self.warming &= set(wants.cache)

    @rule(rounds=st.integers(1, 5), accept=st.sampled_from([True, True, False]))
    def messages_travel(self, rounds, accept):
        for _ in range(rounds):
            if self.to_client:
                self.client_reads(accept)
            if self.to_server:
                self.server_reads()
            self.server_pushes()

    @rule(order=st.permutations(TYPES))
    def stream_breaks(self, order):
        self.new_stream()
        for type_url in order:
            wants = self.wants[type_url]
            if not (wants.wildcard or wants.names):
                wants.asked_before = False
                continue
            names = wants.names | ({"*"} if wants.wildcard and wants.explicit else set())
            self.send(wants, subscribe=frozenset(names), initial=dict(wants.versions))

    # The end

    def drain(self):
        for _ in range(1000):
            if self.to_server:
                self.server_reads()
                continue
            if not self.to_client:
                self.server_pushes()
            if not self.to_client and self.session.is_waiting:
                self.patience_ends()
            if not self.to_client:
                return
            self.client_reads()
        pytest.fail("client and server never come to rest")

    def teardown(self):
        if not hasattr(self, "wants"):
            return
        self.drain()
        for wants in self.wants.values():
            if not wants.rejected:
                self.check(wants)
        for wants in self.wants.values():
            if wants.rejected and (wants.wildcard or wants.names):
                name = min(wants.names) if wants.names else "a"
                self.put(wants.type_url, self.truth[wants.type_url] | {name: "final"})
        self.drain()
        for wants in self.wants.values():
            self.check(wants)
        cold = {n for n in self.warming if n in self.wants[ENDPOINT].names and n in self.truth[ENDPOINT]}
        assert not cold, f"clusters warm for ever: {cold}"
        assert not self.session.owes()

    def check(self, wants):
        truth = {n: t for n, t in self.truth[wants.type_url].items() if wants.covers(n)}
        held = {n: t for n, t in wants.cache.items() if wants.covers(n)}
        if not self.delta and wants.type_url not in WILDCARD:
            held = {n: t for n, t in held.items() if n in truth}  # absence cannot be told
        held = {n: t for n, t in held.items() if t or n in truth}  # stand-ins have no text
        assert held == truth, wants.type_url


class SotwMachine(Machine):
    delta = False


class DeltaMachine(Machine):
    delta = True


TestSotw = SotwMachine.TestCase
TestDelta = DeltaMachine.TestCase
TestSotw.settings = TestDelta.settings = settings(
    max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
