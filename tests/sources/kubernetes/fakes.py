"""An API server in memory, whose answers a test decides, and time that passes at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pypilot.kinds import KINDS
from pypilot.kinds.base import Kind
from pypilot.kube.connection import Answer
from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.sources.kubernetes.pace import Pace

CORE = tuple(k for k in KINDS if not k.group)


def item(name: str, namespace: str = "default", version: str = "1", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": version, **more.pop("metadata", {})}
    return {"metadata": metadata, **more}


def service(name: str, port: int = 80, version: str = "1") -> dict[str, Any]:
    return item(name, version=version, spec={"ports": [{"port": port, "name": "http"}]})


def listed(*items: Mapping[str, Any], version: str = "10", more: str = "") -> bytes:
    metadata = {"resourceVersion": version} | ({"continue": more} if more else {})
    return json.dumps({"metadata": metadata, "items": items}).encode()


def event(kind: str, data: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": data}).encode() + b"\n"


def bookmark(version: str) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": version}})


@dataclass
class Clock:
    """Sleeping takes no time, and is remembered."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def pace(self, **more: Any) -> Pace:
        return Pace(sleep=self.sleep, clock=lambda: self.now, random=lambda: 1.0, **more)


@dataclass
class Request:
    path: str
    parameters: Mapping[str, str]
    accept: str

    @property
    def is_watch(self) -> bool:
        return "watch" in self.parameters


Reply = bytes | Exception
Hold = object()


class FakeConnection:
    """Answers come from two functions; a watch whose chunks are over stays open until it is told otherwise."""

    def __init__(self, get: Callable[[Request], Reply], watch: Callable[[Request], Iterable[Reply | object]]) -> None:
        self.requests: list[Request] = []
        self._get = get
        self._watch = watch

    async def get(self, path: str, parameters: Mapping[str, str], accept: str, seconds: float) -> Answer:
        request = Request(path, dict(parameters), accept)
        self.requests.append(request)
        await asyncio.sleep(0)
        reply = self._get(request)
        if isinstance(reply, Exception):
            raise reply
        return Answer("application/json", reply)

    @asynccontextmanager
    async def stream(
        self, path: str, parameters: Mapping[str, str], accept: str, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        request = Request(path, dict(parameters), accept)
        self.requests.append(request)
        yield self._chunks(self._watch(request))

    async def _chunks(self, replies: Iterable[Reply | object]) -> AsyncIterator[bytes]:
        for reply in replies:
            await asyncio.sleep(0)
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply, bytes):
                yield reply
            else:
                await asyncio.Event().wait()

    async def close(self) -> None:
        return None


def script(*steps: Iterable[Reply | object]) -> Callable[[Request], Iterable[Reply | object]]:
    """The watches of one kind, one after the other; after the last, one that holds."""
    left = list(steps)
    return lambda _: left.pop(0) if left else (Hold,)


def not_found() -> ApiError:
    return ApiError(404, "not found")


def unreachable() -> UnreachableError:
    return UnreachableError("connection refused")


def kind_named(name: str) -> Kind:
    return next(k for k in KINDS if k.name == name)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come true; turns of the loop, not time."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("in vain")
