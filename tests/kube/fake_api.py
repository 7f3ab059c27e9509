"""An API server in memory: objects with versions, conflicts, watches; it can be made to refuse, to hang, to lose."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from pypilot.kube.connection import JSON, MERGE_PATCH, Answer
from pypilot.kube.errors import ApiError

Fault = Callable[[str, str], Exception | None]


class FakeApi:
    """A `WritingConnection`."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        """By path."""
        self.calls: list[tuple[str, str, Any]] = []
        self.fault: Fault = lambda method, path: None
        """Decides whether a request fails before it does anything."""
        self.lost: Fault = lambda method, path: None
        """Likewise, but the request has been carried out."""
        self.answers: dict[str, Callable[[Any], Any]] = {}
        """For paths that hold no objects."""
        self._version = 10
        self._watches: list[tuple[str, str, asyncio.Queue[Any]]] = []

    # -- for tests ----------------------------------------------------------------------------------------------------

    def put(self, path: str, data: Mapping[str, Any]) -> None:
        kind = "MODIFIED" if path in self.objects else "ADDED"
        self._version += 1
        stored = copy.deepcopy(dict(data))
        stored.setdefault("metadata", {})
        stored["metadata"] |= {"name": path.rpartition("/")[2], "resourceVersion": str(self._version)}
        if "/namespaces/" in path:
            stored["metadata"]["namespace"] = path.split("/namespaces/")[1].split("/")[0]
        self.objects[path] = stored
        self._tell(kind, path)

    def remove(self, path: str) -> None:
        self._version += 1
        self._tell("DELETED", path)
        del self.objects[path]

    def cut_watches(self) -> None:
        for _, _, queue in self._watches:
            queue.put_nowait(None)

    def writes(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path, _ in self.calls if method != "GET"]

    def _tell(self, kind: str, path: str) -> None:
        for place, name, queue in self._watches:
            if self._is_in(path, place, name):
                queue.put_nowait({"type": kind, "object": copy.deepcopy(self.objects[path])})

    def _is_in(self, path: str, place: str, name: str) -> bool:
        here, _, own = path.rpartition("/")
        base, _, plural = place.rpartition("/")
        return own == name and (
            here == place or (here.startswith(f"{base}/namespaces/") and here.endswith(f"/{plural}"))
        )

    def _check(self, fault: Fault, method: str, path: str) -> None:
        if (error := fault(method, path)) is not None:
            raise error

    # -- WritingConnection --------------------------------------------------------------------------------------------

    async def get(self, path: str, parameters: Mapping[str, str], accept: str, seconds: float) -> Answer:
        await asyncio.sleep(0)
        self.calls.append(("GET", path, None))
        self._check(self.fault, "GET", path)
        if "fieldSelector" in parameters:
            name = parameters["fieldSelector"].partition("=")[2]
            items = [o for p, o in sorted(self.objects.items()) if self._is_in(p, path, name)]
            body: Any = {"metadata": {"resourceVersion": str(self._version)}, "items": items}
        elif path in self.objects:
            body = self.objects[path]
        else:
            raise ApiError(404, f"{path} not found")
        return Answer(JSON, json.dumps(body).encode())

    async def send(self, method: str, path: str, body: Any, content_type: str = JSON, seconds: float = 30.0) -> Answer:
        await asyncio.sleep(0)
        self.calls.append((method, path, copy.deepcopy(body)))
        self._check(self.fault, method, path)
        plain = urlsplit(path).path
        if plain in self.answers:
            return Answer(JSON, json.dumps(self.answers[plain](body)).encode())
        target = f"{plain}/{body['metadata']['name']}" if method == "POST" else plain
        if method == "POST":
            if target in self.objects:
                raise ApiError(409, "already exists")
            self.put(target, body)
        else:
            if target not in self.objects:
                raise ApiError(404, f"{target} not found")
            given = (body.get("metadata") or {}).get("resourceVersion")
            if given is not None and given != self.objects[target]["metadata"]["resourceVersion"]:
                raise ApiError(409, "the object has been modified")
            self.put(target, body if method == "PUT" else _merged(self.objects[target], body, content_type))
        self._check(self.lost, method, path)
        return Answer(JSON, json.dumps(self.objects[target]).encode())

    @asynccontextmanager
    async def stream(
        self, path: str, parameters: Mapping[str, str], accept: str, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self._check(self.fault, "WATCH", path)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        entry = (path, parameters["fieldSelector"].partition("=")[2], queue)
        self._watches.append(entry)

        async def chunks() -> AsyncIterator[bytes]:
            while (event := await queue.get()) is not None:
                text = json.dumps(event).encode() + b"\n"
                yield text[: len(text) // 2]
                yield text[len(text) // 2 :]

        try:
            yield chunks()
        finally:
            self._watches.remove(entry)

    async def close(self) -> None:
        self.cut_watches()


def _merged(old: Any, change: Any, content_type: str) -> Any:
    """Merge patch; a strategic one merges lists of things with names."""
    if isinstance(old, Mapping) and isinstance(change, Mapping):
        return {**old, **{k: _merged(old.get(k), v, content_type) for k, v in change.items()}}
    if content_type != MERGE_PATCH and isinstance(old, list) and isinstance(change, list):
        changes = {item["name"]: item for item in change}
        return [_merged(item, changes.get(item["name"], {}), content_type) for item in old]
    return change
