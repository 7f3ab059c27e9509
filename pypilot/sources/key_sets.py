"""The keys of token issuers: fetched beside everything else, so that nothing ever waits for them (RA-011…016).

What was fetched last stays until something else is; what never could be fetched is absent, and who compiles refuses the
issuer's tokens then. Whose keys are wanted is told; nothing here knows why.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from pypilot.kinds.base import Ref
from pypilot.kinds.request_authentication import RequestAuthentication
from pypilot.kube.retry import Retry
from pypilot.world.delta import Delta, Problem
from pypilot.world.key_sets import KeySource, key_source

CODE: Final = "keys"
"""Of problems with keys."""


class FetchError(Exception):
    """Nothing was fetched; says why."""


class Fetch(Protocol):
    """Gets a document."""

    async def __call__(self, url: str, seconds: float) -> bytes:
        """Its bytes.

        Raises:
            FetchError: there are none.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeyPace:
    """Seconds."""

    refresh: float = 1200.0
    first_retry: float = 1.0
    longest_retry: float = 3600.0


class Want(NamedTuple):
    """Who wants a key set."""

    seconds: float
    """How long one fetch may take."""
    ref: Ref
    field: str


class _Discovered(msgspec.Struct):
    jwks_uri: str = ""


class _KeySet(msgspec.Struct):
    keys: list[dict[str, object]]


def wanted(policies: Iterable[RequestAuthentication], only_discovered: bool = False) -> Mapping[KeySource, Want]:
    """The key sets that must be fetched for these policies, each for the first that wants it.

    `only_discovered`: what has an address proxies fetch themselves (RA-017).
    """
    found: dict[KeySource, Want] = {}
    for policy in sorted(policies, key=lambda p: p.ref):
        for i, rule in enumerate(policy.spec.jwt_rules):
            if not rule.jwks and (not only_discovered if rule.uri else rule.issuer):
                path = f"spec.jwtRules[{i}].{'jwksUri' if rule.uri else 'issuer'}"
                want = Want(rule.timeout.seconds or 5.0, policy.ref, path)
                found.setdefault(key_source(rule.issuer, rule.uri), want)
    return MappingProxyType(found)


class KeySets:
    """Keeps what is wanted fetched."""

    def __init__(
        self, fetch: Fetch, changed: Callable[[Delta, tuple[Problem, ...]], None], pace: KeyPace | None = None
    ) -> None:
        """`changed` is told of keys, and of all problems with them that there are now."""
        self._fetch = fetch
        self._changed = changed
        self._pace = pace or KeyPace()
        self._wanted: Mapping[KeySource, Want] = {}
        self._known: dict[KeySource, str] = {}
        self._problems: dict[KeySource, Problem] = {}
        self._tasks: dict[KeySource, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("pypilot.sources")

    def want(self, sources: Mapping[KeySource, Want]) -> None:
        """From now on these, and no others."""
        self._wanted = sources
        gone = self._tasks.keys() - sources.keys()
        for source in gone:
            self._tasks.pop(source).cancel()
            self._problems.pop(source, None)
        for source in sources:
            if source not in self._tasks:
                self._tasks[source] = asyncio.get_running_loop().create_task(self._keep(source))
        if gone:
            dropped = {source: "" for source in gone if self._known.pop(source, "")}
            self._tell(dropped)

    async def close(self) -> None:
        """Stop fetching."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, key_sets: Mapping[KeySource, str]) -> None:
        self._changed(Delta(key_sets=dict(key_sets)), tuple(self._problems.values()))

    async def _keep(self, source: KeySource) -> None:
        retry = Retry(self._pace.first_retry, self._pace.longest_retry)
        while True:
            try:
                text = await self._read(source)
            except FetchError as error:
                self._failed(source, str(error))
                pause = retry.failed()
            except Exception as error:  # whatever an issuer answers, others go on
                self._log.exception("keys could not be read", source=str(source))
                self._failed(source, type(error).__name__)
                pause = retry.failed()
            else:
                self._fetched(source, text)
                retry.succeeded()
                pause = self._pace.refresh
            await asyncio.sleep(pause)

    async def _read(self, source: KeySource) -> str:
        seconds = self._wanted[source].seconds
        uri = source.uri
        if not uri:
            where = source.issuer.rstrip("/") + "/.well-known/openid-configuration"
            try:
                uri = msgspec.json.decode(await self._fetch(where, seconds), type=_Discovered).jwks_uri
            except msgspec.DecodeError:
                raise FetchError(f"{where} is not an OpenID configuration") from None
            if not uri:
                raise FetchError(f"{where} names no jwks_uri")
        body = await self._fetch(uri, seconds)
        try:
            msgspec.json.decode(body, type=_KeySet)
            return body.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise FetchError(f"{uri} is not a JSON Web Key Set") from None

    def _failed(self, source: KeySource, reason: str) -> None:
        want = self._wanted[source]
        kept = "its last keys stay" if source in self._known else "its tokens are refused"
        problem = Problem(f"no keys: {reason}; {kept}", "warning", CODE, want.ref, want.field)
        if self._problems.get(source) != problem:
            self._problems[source] = problem
            self._tell({})

    def _fetched(self, source: KeySource, text: str) -> None:
        had_problem = self._problems.pop(source, None) is not None
        known = self._known.get(source)
        if known is not None and _normal(known) == _normal(text):
            if had_problem:
                self._tell({})
            return
        self._known[source] = text
        self._log.info("keys", issuer=source.issuer, uri=source.uri)
        self._tell({source: text})


def _normal(text: str) -> list[bytes]:
    """The keys without their order (RA-015)."""
    keys = msgspec.json.decode(text, type=_KeySet).keys
    return sorted(msgspec.json.encode(key, order="sorted") for key in keys)
