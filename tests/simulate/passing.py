"""A request on its way through the HTTP filters, and what holds for it. Plain frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from tests.simulate.fields import Message, at
from tests.simulate.model import Connection, Edits, Headers, Reply, Request


@dataclass(frozen=True, slots=True)
class Passing:
    """A request on its way through the filters."""

    request: Request
    delay: Fraction = Fraction(0)
    response_set: Headers = ()
    """Headers that filters will set on whatever comes back."""
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Dynamic metadata: what filters found out, by filter."""


@dataclass(frozen=True, slots=True)
class Level:
    """What holds for the request apart from a filter's own configuration."""

    route: Message | None
    host: Message = field(default_factory=dict)
    cluster: str = ""
    edits: tuple[Edits, ...] = ()
    """The route's operations on response headers, which local replies get, too."""
    connection: Connection = Connection(destination="", port=0)
    remote: str = ""
    """The address of the original client, as far as the connection manager trusts what it is told."""

    def config(self, name: str) -> Message:
        """The most specific configuration of a filter: the route's, else the virtual host's."""
        for holder in (self.route or {}, self.host):
            found = at(holder, "typed_per_filter_config", name)
            if found:
                return found
        return {}


Result: TypeAlias = tuple[Fraction, Passing | Reply, str]
