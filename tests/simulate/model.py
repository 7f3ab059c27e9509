"""What goes into the simulator, connections and requests, and what comes out of it. Plain frozen data.

A verdict is a distribution: Envoy draws lots for weighted clusters, runtime fractions, faults and mirrors, and
probabilities are exact fractions.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, TypeAlias

from tests.simulate.fields import Message

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names in lower case, in the order in which they stand; a name may come several times."""
Application: TypeAlias = Literal["http/1.1", "h2c", "tcp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A TCP connection as it reaches the proxy."""

    destination: str
    """The address that the client meant."""
    port: int
    captured_at: int = 0
    """The proxy's port to which the capture redirected it (15001, 15006); 0 for a connection straight to the proxy."""
    source: str = "127.0.0.1"
    source_port: int = 0
    tls: bool = False
    server_name: str = ""
    alpn: tuple[str, ...] = ()
    application: Application = "http/1.1"
    """What the first bytes are; within TLS, if there is TLS."""
    peer: tuple[str, ...] = ()
    """URI names of the client's certificate; empty if it showed none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request without its body."""

    authority: str
    path: str = "/"
    """With the query."""
    method: str = "GET"
    headers: Headers = ()
    scheme: str = "http"
    """Set by the connection manager: https below TLS."""

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a header or pseudo header."""
        match name:
            case ":authority" | "host":
                return (self.authority,)
            case ":path":
                return (self.path,)
            case ":method":
                return (self.method,)
            case ":scheme":
                return (self.scheme,)
        return tuple(value for key, value in self.headers if key == name)

    def value(self, name: str) -> str | None:
        """All values, joined by commas; None if there is none."""
        found = self.values(name.lower())
        return ",".join(found) if found else None

    @property
    def pure_path(self) -> str:
        """The path without query and fragment."""
        return self.path.partition("?")[0].partition("#")[0]

    @property
    def is_grpc(self) -> bool:
        kind = self.value("content-type") or ""
        return kind == "application/grpc" or kind.startswith("application/grpc+")


@dataclass(frozen=True, slots=True)
class Step:
    """One decision on the way, and the field that took it."""

    stage: str
    resource: str
    """Type and name: `RDS 8080`."""
    field: str
    """Path within the resource: `virtual_hosts[2].routes[0].match.prefix`."""
    said: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.said} ({self.resource} {self.field})"


@dataclass(slots=True)
class Trace:
    """Steps gathered along one way through the configuration."""

    steps: list[Step] = field(default_factory=list)

    def note(self, stage: str, resource: str, path: str, said: str) -> None:
        self.steps.append(Step(stage, resource, path, said))

    def fork(self) -> "Trace":
        return Trace(list(self.steps))


@dataclass(frozen=True, slots=True)
class Edits:
    """One `HeaderParser` of Envoy: what one level of the configuration does to headers."""

    add: tuple[Message, ...] = ()
    """`HeaderValueOption` messages."""
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An upstream host that may be chosen."""

    address: str
    """`IP:PORT`, a path, or what the cluster's type says of it (`original destination`)."""
    probability: Fraction
    priority: int = 0
    locality: tuple[str, str, str] = ("", "", "")
    transport: str = ""
    """Name of the transport socket match; empty for the cluster's own socket."""
    tls: bool = False
    sni: str = ""
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mirror:
    """A cluster that gets copies."""

    cluster: str
    probability: Fraction


@dataclass(frozen=True, slots=True)
class Reply:
    """Envoy answers itself."""

    status: int
    flags: str = ""
    """Response flags as the access log shows them."""
    details: str = ""
    headers: Headers = ()
    body: bytes = b""
    delay: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Forward:
    """The request goes to a cluster."""

    cluster: str
    request: Request
    """As the upstream sees it."""
    endpoints: tuple[Endpoint, ...] = ()
    response_edits: tuple[Edits, ...] = ()
    """In the order in which they are applied to the upstream's answer."""
    response_set: Headers = ()
    """Set by filters after that (CORS)."""
    timeout: Fraction | None = None
    """Seconds; None for no limit."""
    attempts: int = 1
    """The first and all retries."""
    retry_on: tuple[str, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    hash_by: tuple[str, ...] = ()
    delay: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The bytes of the connection go to a cluster."""

    cluster: str
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is closed without an answer."""

    flags: str
    details: str


Outcome: TypeAlias = Reply | Forward | Tunnel | Closed


@dataclass(frozen=True, slots=True)
class Chance:
    """One possible outcome."""

    probability: Fraction
    outcome: Outcome
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Envoy does with a request or a connection: outcomes whose probabilities sum to 1."""

    chances: tuple[Chance, ...]

    def __iter__(self) -> Iterator[Chance]:
        return iter(self.chances)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(chance.outcome for chance in self.chances)

    @property
    def outcome(self) -> Outcome:
        """The only outcome.

        Raises:
            ValueError: there are several.
        """
        (chance,) = self.chances
        return chance.outcome

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that all outcomes share."""
        shared = self.chances[0].steps
        for chance in self.chances[1:]:
            same = 0
            while same < min(len(shared), len(chance.steps)) and shared[same] == chance.steps[same]:
                same += 1
            shared = shared[:same]
        return shared

    def clusters(self) -> Mapping[str, Fraction]:
        """Cluster -> probability."""
        found: dict[str, Fraction] = {}
        for chance in self.chances:
            if isinstance(chance.outcome, Forward | Tunnel):
                cluster = chance.outcome.cluster
                found[cluster] = found.get(cluster, Fraction(0)) + chance.probability
        return found


def scaled(chances: tuple[Chance, ...], by: Fraction) -> tuple[Chance, ...]:
    """The same chances as a part of a whole."""
    return tuple(replace(chance, probability=chance.probability * by) for chance in chances)


def merged(chances: Iterable[Chance]) -> tuple[Chance, ...]:
    """Equal replies as one: what led to them made no difference, so that only the steps of the first are kept."""
    found: list[Chance] = []
    for chance in chances:
        same = next((i for i, other in enumerate(found) if other.outcome == chance.outcome), None)
        if same is None or not isinstance(chance.outcome, Reply):
            found.append(chance)
        else:
            found[same] = replace(found[same], probability=found[same].probability + chance.probability)
    return tuple(found)
