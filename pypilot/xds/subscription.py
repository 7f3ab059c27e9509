"""Which names of one type a client wants: the wildcard rules of the xDS protocol, and nothing else.

Theory: a subscription is a set of explicit names plus, perhaps, the wildcard `*`. A state-of-the-world request states
the whole subscription; an incremental one edits it. Both methods return what the client must now be answered about.
Nothing here knows resources, versions or nonces, or does I/O.

Source: "How the client specifies what resources to return", "Unsubscribing From Resources", "Subscribing to Resources"
and "Unsubscribing from Resources" in
https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

WILDCARD_NAME: Final = "*"

NO_NAMES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asked to be answered about."""

    everything: bool = False
    """The wildcard was (again) subscribed to."""
    names: frozenset[str] = NO_NAMES


NOTHING: Final = Asked()


@dataclass(slots=True)
class Subscription:
    """The names of one type that one stream wants."""

    legacy: bool
    """The type gives "everything" to a client that has never named anything (CDS and LDS)."""
    names: frozenset[str] = NO_NAMES
    """Explicit names, without `*`."""
    wildcard: bool = False
    named_before: bool = False
    """A name was subscribed to on this stream: an empty list no longer means the wildcard."""

    @property
    def active(self) -> bool:
        """False if the client wants nothing of this type."""
        return self.wildcard or bool(self.names)

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def covered(self, names: AbstractSet[str]) -> frozenset[str]:
        """The part of `names` that is subscribed to; `names` itself, not a copy, if it is all of it."""
        if self.wildcard or names is self.names or names <= self.names:
            return frozenset(names)
        return self.names.intersection(names)

    def replace(self, names: frozenset[str]) -> Asked:
        """A state-of-the-world request: `names` is the whole subscription from now on."""
        if names:
            self.named_before = True
        was_wildcard, before = self.wildcard, self.names
        if WILDCARD_NAME in names:
            self.wildcard, self.names = True, names - {WILDCARD_NAME}
        else:
            self.wildcard, self.names = self.legacy and not self.named_before, names
        if self.names is before and self.wildcard == was_wildcard:
            return NOTHING
        return Asked(everything=self.wildcard and not was_wildcard, names=self.names - before)

    def drop(self, names: AbstractSet[str]) -> None:
        """Unsubscribe from explicit names."""
        if names:
            self.names -= names

    def edit(self, subscribe: frozenset[str], unsubscribe: frozenset[str]) -> Asked:
        """An incremental request. A name in both lists stays subscribed: the client may need to be reminded of it.

        Names are answered even if they were subscribed to before: the client may have forgotten them. So is a name
        that is unsubscribed from while the wildcard holds, for the client cannot tell whether the wildcard includes it.
        """
        everything = False
        answer = NO_NAMES
        if not subscribe and not unsubscribe:
            if self.legacy and not self.named_before and not self.wildcard:
                self.wildcard = everything = True
            return Asked(everything)
        if unsubscribe:
            gone = self.names & unsubscribe
            self.names -= gone
            if WILDCARD_NAME in unsubscribe:
                self.wildcard = False
                self.named_before = True
            if self.wildcard:
                answer = gone
        if subscribe:
            self.named_before = True
            named = subscribe - {WILDCARD_NAME} if WILDCARD_NAME in subscribe else subscribe
            if WILDCARD_NAME in subscribe:
                self.wildcard = everything = True
            self.names = self.names | named if self.names else named
            answer = answer | named if answer else named
        return Asked(everything, answer)
