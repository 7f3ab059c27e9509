"""Single objects by name, as plain data: read, made if absent, changed, and followed.

For the few objects that the control plane itself owns. Configuration is read by `sources.kubernetes`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from pypilot.kube.connection import JSON, MERGE_PATCH, Connection, WritingConnection
from pypilot.kube.errors import FAILURES, ApiError, BrokenStreamError
from pypilot.kube.lines import Lines
from pypilot.kube.retry import Retry

Data = Mapping[str, Any]
_LASTING_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Collection:
    """Where objects of a kind are."""

    api_version: str
    plural: str
    namespace: str = ""
    """Empty: all namespaces, or a kind that has none."""

    @property
    def path(self) -> str:
        """The path of the list."""
        base = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        place = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{base}{place}/{self.plural}"

    def named(self, name: str) -> str:
        """The path of one object."""
        return f"{self.path}/{name}"


def _decode(body: bytes) -> dict[str, Any]:
    try:
        data = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise BrokenStreamError("the answer is not JSON") from None
    if not isinstance(data, dict):
        raise BrokenStreamError("the answer is not an object")
    return data


async def read(connection: Connection, path: str, seconds: float = 10.0) -> dict[str, Any] | None:
    """An object; None if there is none.

    Raises:
        ApiError, UnreachableError, CredentialsError, BrokenStreamError: it is not known.
    """
    try:
        return _decode((await connection.get(path, {}, JSON, seconds)).body)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def create(connection: WritingConnection, path: str, body: Data, seconds: float = 10.0) -> dict[str, Any] | None:
    """The object as it was made; None if there is one of that name already.

    Raises:
        ApiError, UnreachableError, CredentialsError, BrokenStreamError: as `read`.
    """
    return await _unless_conflict(connection, "POST", path, body, seconds)


async def replace(connection: WritingConnection, path: str, body: Data, seconds: float = 10.0) -> dict[str, Any] | None:
    """The object as it is now; None if somebody else changed it meanwhile (`resourceVersion`).

    Raises:
        ApiError, UnreachableError, CredentialsError, BrokenStreamError: as `read`.
    """
    return await _unless_conflict(connection, "PUT", path, body, seconds)


async def _unless_conflict(
    connection: WritingConnection, method: str, path: str, body: Data, seconds: float
) -> dict[str, Any] | None:
    try:
        return _decode((await connection.send(method, path, body, seconds=seconds)).body)
    except ApiError as error:
        if error.status == 409:
            return None
        raise


async def patch(connection: WritingConnection, path: str, body: Data, form: str = MERGE_PATCH) -> None:
    """Change a part of an object.

    Raises:
        ApiError, UnreachableError, CredentialsError: as `WritingConnection.send`.
    """
    await connection.send("PATCH", path, body, form, seconds=10.0)


@dataclass(frozen=True, slots=True)
class FollowTimes:
    """Seconds."""

    request: float = 30.0
    watch: int = 290
    silence: float = 100.0
    """A watch without event or bookmark for so long is stuck."""
    first_retry: float = 0.2
    longest_retry: float = 30.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Follower:
    """All objects of one name, by namespace: listed, then watched, for ever. A fault takes nothing away."""

    def __init__(
        self,
        connection: Connection,
        collection: Collection,
        name: str,
        changed: Callable[[], None],
        times: FollowTimes | None = None,
    ) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.synced = asyncio.Event()
        self.error = ""
        """Why they cannot be followed, while that lasts."""
        self._connection = connection
        self._collection = collection
        self._name = name
        self._changed = changed
        self._times = times or FollowTimes()
        self._retry = Retry(self._times.first_retry, self._times.longest_retry)
        self._version = ""
        self._log = structlog.get_logger("pypilot.kubernetes").bind(path=collection.named(name))

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except FAILURES as error:
                await self._wait(error, error.retry_after if isinstance(error, ApiError) else None)
            except Exception as error:
                self._log.exception("following failed")
                await self._wait(error, None)

    async def _wait(self, error: Exception, at_least: float | None) -> None:
        self._version = ""
        delay = self._retry.failed(at_least)
        is_denied = isinstance(error, ApiError) and error.status in (401, 403)
        if not self.error and (is_denied or self._retry.failures >= _LASTING_FAILURES):
            self.error = str(error) or type(error).__name__
            self._log.warning("cannot be followed", error=self.error)
        await self._times.sleep(delay)

    def _succeeded(self) -> None:
        self._retry.succeeded()
        self.error = ""

    def _parameters(self, **more: str) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self._name}", **more}

    async def _list(self) -> None:
        found: dict[str, dict[str, Any]] = {}
        parameters = self._parameters(limit="500")
        while True:
            answer = await self._connection.get(self._collection.path, parameters, JSON, self._times.request)
            page = _decode(answer.body)
            for item in page.get("items") or ():
                found[item["metadata"].get("namespace", "")] = _kept(item)
            more = page.get("metadata", {}).get("continue")
            if not more:
                break
            parameters = self._parameters(limit="500", **{"continue": more})
        self._version = page["metadata"]["resourceVersion"]
        self._succeeded()
        has_changed = found != self.objects or not self.synced.is_set()
        self.objects = found
        self.synced.set()
        if has_changed:
            self._changed()

    async def _watch(self) -> None:
        parameters = self._parameters(
            watch="true",
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(self._times.watch),
        )
        events, text = 0, Lines()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with self._connection.stream(self._collection.path, parameters, JSON, self._times.silence) as chunks:
            async for chunk in chunks:
                for line in filter(None, text.feed(chunk)):
                    self._take(_decode(line))
                    events += 1
        if not events and loop.time() - begun < 1:
            raise BrokenStreamError("the watch ended at once")

    def _take(self, event: dict[str, Any]) -> None:
        kind, item = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise ApiError(int(item.get("code") or 500), str(item.get("message", "")))
        metadata = item.get("metadata") or {}
        self._version = metadata.get("resourceVersion") or self._version
        self._succeeded()
        if kind == "BOOKMARK" or metadata.get("name") != self._name:
            return
        namespace = metadata.get("namespace", "")
        if kind == "DELETED":
            self.objects.pop(namespace, None)
        else:
            self.objects[namespace] = _kept(item)
        self._changed()


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in item["metadata"].items() if k != "managedFields"}
    return {**item, "metadata": metadata}
