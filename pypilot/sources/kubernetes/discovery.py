"""Which kinds a server serves, and in which version: aggregated discovery, else group by group.

Asks and reads; what to do about an answer is `source`'s business. An answer that may be incomplete never says that a
kind is gone: it raises.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from pypilot.kinds.base import Kind
from pypilot.kube.connection import JSON, Connection
from pypilot.kube.errors import ApiError, BrokenStreamError

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"

T = TypeVar("T")


class Served(NamedTuple):
    """What a server serves of the kinds that it was asked for."""

    versions: Mapping[Kind, str]
    """In which version each is to be read; kinds that are not served are absent."""
    strange: frozenset[Kind] = frozenset()
    """Those that are known to be served, but in no version that pypilot reads."""


class _Resource(msgspec.Struct):
    resource: str = ""
    name: str = ""


class _Version(msgspec.Struct):
    version: str = ""
    resources: list[_Resource] = []
    freshness: str = ""


class _Name(msgspec.Struct, frozen=True):
    name: str = ""


class _Group(msgspec.Struct):
    metadata: _Name = _Name()
    versions: list[_Version] = []


class _Groups(msgspec.Struct):
    kind: str = ""
    items: list[_Group] = []


class _Resources(msgspec.Struct):
    resources: list[_Resource] | None = None


async def discover(connection: Connection, kinds: Collection[Kind], seconds: float) -> Served:
    """What is served of `kinds`, each in the first of its versions that is.

    Raises:
        ApiError, UnreachableError, CredentialsError, BrokenStreamError: it cannot be told.
    """
    groups = {kind.group for kind in kinds if kind.group}
    found = {("", "v1", kind.plural) for kind in kinds if not kind.group}  # the core group is always there
    if groups:
        answer = await connection.get("/apis", {}, AGGREGATED, seconds)
        aggregated = _decode(answer.body, _Groups)
        if aggregated.kind == "APIGroupDiscoveryList":
            found |= _read_aggregated(aggregated, groups)
        else:
            versions = {(kind.group, version) for kind in kinds if kind.group for version in kind.versions}
            for group, version in sorted(versions):
                found |= await _ask_version(connection, group, version, seconds)
    chosen = {}
    for kind in kinds:
        for version in kind.versions:
            if (kind.group, version, kind.plural) in found:
                chosen[kind] = version
                break
    names = {(group, plural) for group, _, plural in found}
    return Served(chosen, frozenset(k for k in kinds if k not in chosen and (k.group, k.plural) in names))


async def has_started(connection: Connection, seconds: float) -> bool:
    """False if the server says that it is still starting: then it may not list yet all that it will serve.

    Raises:
        ApiError, UnreachableError, CredentialsError: it cannot be told.
    """
    try:
        await connection.get("/readyz", {}, "*/*", seconds)
    except ApiError as error:
        if error.status < 500 and error.status != 429:
            return True  # it does not say
        if error.status == 500:
            return False
        raise
    return True


def _read_aggregated(answer: _Groups, groups: Collection[str]) -> set[tuple[str, str, str]]:
    found = set()
    for group in answer.items:
        for version in group.versions if group.metadata.name in groups else ():
            if version.freshness == "Stale":
                raise BrokenStreamError(f"discovery of {group.metadata.name}/{version.version} is stale")
            found |= {(group.metadata.name, version.version, r.resource) for r in version.resources}
    return found


async def _ask_version(connection: Connection, group: str, version: str, seconds: float) -> set[tuple[str, str, str]]:
    try:
        answer = await connection.get(f"/apis/{group}/{version}", {}, JSON, seconds)
    except ApiError as error:
        if error.status == 404:
            return set()
        raise
    return {(group, version, r.name) for r in _decode(answer.body, _Resources).resources or ()}


def _decode(body: bytes, into: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.DecodeError as error:
        raise BrokenStreamError(f"not a discovery document: {error}") from error
