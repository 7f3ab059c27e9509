"""The parts that every kind shares: object metadata, references, findings, durations and the registry entry.

A kind is a frozen msgspec struct whose fields are the API's fields: decoding, type checks and ranges derive from the
field types. Nothing here may know a particular kind, and nothing does I/O.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import total_ordering
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import msgspec

JsonObject: TypeAlias = Mapping[str, Any]
FieldPath: TypeAlias = tuple[str | int, ...]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
UInt32 = Annotated[int, msgspec.Meta(ge=0, le=4294967295)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
NOT_IN_API = msgspec.Meta(extra={"api": False})
"""Marks a field of a message that no API has: it is left out of resource definitions."""


def unsupported(reason: str) -> msgspec.Meta:
    """Marks a field of the API that has no effect; who sets it is told the reason (`unsupported-field`)."""
    return msgspec.Meta(extra={"unsupported": reason})


def deprecated(instead: str) -> msgspec.Meta:
    """Marks a field that works but has a successor; who sets it is told which (`deprecated-field`)."""
    return msgspec.Meta(extra={"deprecated": instead})


class Ref(NamedTuple):
    """The key of an object: unique in a world. `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object was read: a file and the line of its document, or a cluster."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one field of an object, found without knowing where the object came from."""

    field: str
    """Path from the object's root: `spec.http[0].route[1].weight`."""
    message: str
    severity: Severity = "error"
    code: str = "invalid"


def no_effect(path: str, because: str) -> Finding:
    """A warning of a field that does nothing together with the others that are set."""
    return Finding(path, f"has no effect: {because}", "warning", "no-effect")


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_MAX_NANOS = 2**63 - 1
_NANOS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


@total_ordering
class Duration:
    """A length of time in whole nanoseconds; written `1.5s`, `1m30s`, `200ms` (Go and proto3 JSON forms)."""

    # Not a dataclass: msgspec would then expect an object in its place.
    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        self.nanos = nanos

    @staticmethod
    def parse(text: str) -> "Duration":
        """Read a duration.

        Raises:
            ValueError: the text is not a duration.
        """
        body, sign = (text[1:], -1) if text.startswith("-") else (text, 1)
        if body == "0":
            return Duration(0)
        total, end = 0, 0
        for match in _DURATION.finditer(body):
            if match.start() != end:
                break
            whole, _, fraction = match[1].partition(".")
            unit = _NANOS[match[2]]
            total += int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
            end = match.end()
        if not body or end != len(body):
            raise ValueError(f"invalid duration {text!r}, want for example 1.5s, 200ms or 1h30m")
        if total > _MAX_NANOS:
            raise ValueError(f"duration {text!r} is longer than 292 years")
        return Duration(sign * total)

    @staticmethod
    def of(seconds: float) -> "Duration":
        return Duration(round(seconds * 1_000_000_000))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __repr__(self) -> str:
        return f"Duration({self})"

    def __lt__(self, other: "Duration") -> bool:
        return self.nanos < other.nanos

    def __bool__(self) -> bool:
        return self.nanos != 0

    @property
    def seconds(self) -> float:
        return self.nanos / 1_000_000_000

    def __str__(self) -> str:
        return f"{self.nanos / 1_000_000_000:.9f}".rstrip("0").rstrip(".") + "s"


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=True):
    """Base of every API message: frozen, camelCase on the outside, absent fields at their defaults."""


class OwnerReference(Spec, frozen=True):
    """`metadata.ownerReferences[]`."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    controller: bool = False


class ObjectMeta(Spec, frozen=True):
    """The parts of Kubernetes object metadata that pypilot uses."""

    name: str
    namespace: str = ""
    generate_name: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str = ""
    """RFC 3339; empty for files, which have no age (SEEN-016)."""
    owner_references: tuple[OwnerReference, ...] = ()
    deletion_timestamp: str = ""
    """RFC 3339; set while the object is being taken away."""


class Object(Spec, frozen=True):
    """Base of every kind."""

    KIND: ClassVar[str] = ""

    metadata: ObjectMeta
    api_version: str = ""

    @property
    def ref(self) -> Ref:
        return Ref(self.KIND, self.metadata.namespace, self.metadata.name)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def age_key(self) -> tuple[str, str, str]:
        """Sort key of "oldest first": creation time, then name, then namespace (SEEN-016); no time counts as newest."""
        return (self.metadata.creation_timestamp or "~", self.metadata.name, self.metadata.namespace)


def _no_findings(_: Any) -> Iterable[Finding]:
    return ()


@dataclass(frozen=True, slots=True)
class Held:
    """What an object counts as while a field of it cannot be told."""

    data: Mapping[str, Any]
    meaning: str
    """For people: what holds meanwhile."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A registry entry: what sources, watches, validation, RBAC and resource definitions need to know of a kind."""

    type: type[Object]
    group: str
    """API group; empty for the core group."""
    versions: tuple[str, ...]
    plural: str
    namespaced: bool = True
    units: tuple[str, ...] = ()
    """Paths of list items that can be rejected alone (`spec.http[]`); a wrong field elsewhere rejects the object."""
    without: Callable[[Mapping[str, Any], FieldPath], FieldPath | None] | None = None
    """What to take away, of an object in plain data, for a wrong field, where that is safer than what `units` say: a
    path within the unit, or the empty path for nothing at all; None to follow `units`."""
    hold: Callable[[Mapping[str, Any], FieldPath], Held | None] | None = None
    """For a wrong field where leaving anything out would let through what was to be kept out: what the object, in plain
    data, counts as meanwhile; None to do as `units` and `without` say. Asked first."""
    validate: Callable[[Any], Iterable[Finding]] = field(default=_no_findings)
    advise: Callable[[Any], Iterable[Finding]] = field(default=_no_findings)
    """What there is to warn of in an object without errors: fields without effect together with others."""
    refusals: Callable[[Any], Iterable[Finding]] = field(default=_no_findings)
    """What Istio's webhook refuses in an object without errors: warnings here, denied by ours, too."""
    open_fields: tuple[str, ...] = ()
    """Paths whose content pypilot deliberately does not read (`spec.containers[].image`); `*` reads nothing of it."""

    confidential: bool = False
    """Messages must never quote a value of this kind."""

    short_names: tuple[str, ...] = ()
    """Of the resource definition: `kubectl get vs`."""
    columns: tuple[str, ...] = ()
    """Paths of the fields that `kubectl get` shows."""

    @property
    def name(self) -> str:
        return self.type.KIND


class LabelSelector(Spec, frozen=True):
    """Istio's `WorkloadSelector.labels` / Kubernetes' `matchLabels` form."""

    match_labels: dict[str, str] = {}
    """Labels that must all be there, with these values."""
    labels: dict[str, str] = {}
    """Labels that must all be there, with these values."""


class StringMatch(Spec, frozen=True):
    """Istio `StringMatch`: exactly one of the three, or none for "present"."""

    exact: str | None = None
    """The whole text."""
    prefix: str | None = None
    """How it begins."""
    regex: str | None = None
    """RE2 expression for the whole text."""
