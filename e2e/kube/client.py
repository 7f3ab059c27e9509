"""What a test does to the cluster, and what it reads from it, independently of pypilot's source."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from pypilot.kinds import KINDS, kind_of

Data = Mapping[str, Any]
_ATTEMPTS = 120
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def path_of(data: Data) -> str:
    """The URL path of an object."""
    version, kind, meta = data["apiVersion"], data["kind"], data["metadata"]
    if kind == "CustomResourceDefinition":
        return f"{_CRDS}/{meta['name']}"
    entry = kind_of(version, kind)
    plural, namespaced = (entry.plural, entry.namespaced) if entry is not None else (f"{kind.lower()}s", True)
    if kind.startswith("ClusterRole"):
        namespaced = False
    if kind.endswith("Policy"):
        plural = f"{kind[:-1].lower()}ies"
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{meta.get('namespace', 'default')}" if namespaced else ""
    return f"{base}{place}/{plural}/{meta['name']}"


_BUILTIN_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


def _is_builtin(data: Data) -> bool:
    """True for what an API server makes by itself, and makes again."""
    meta = data["metadata"]
    if data["kind"] == "Namespace":
        return meta["name"] in _BUILTIN_NAMESPACES
    return meta["name"] == "kubernetes" or meta.get("namespace") in _BUILTIN_NAMESPACES[1:]


class Client:
    """The administrator."""

    def __init__(self, cluster: Any, parallel: int = 24) -> None:
        self._cluster = cluster
        self._slots = asyncio.Semaphore(parallel)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._cluster.tls, limit=0)
        self._session = aiohttp.ClientSession(self._cluster.url, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One request, again if the server has just started; the decoded answer."""
        data = None if body is None else json.dumps(body)
        status, text = await self._ask(method, path, data, content_type)
        assert status < 300, f"{method} {path}: {status} {text[:500]}"
        return json.loads(text) if text else None

    async def _ask(
        self, method: str, path: str, data: str | None = None, content_type: str = "application/json"
    ) -> tuple[int, str]:
        for _ in range(_ATTEMPTS):
            async with (
                self._slots,
                self._session.request(method, path, data=data, headers={"Content-Type": content_type}) as response,
            ):
                status, text = response.status, await response.text()
            if status not in (429, 503):
                break
            await asyncio.sleep(0.5)
        return status, text

    async def apply(self, data: Data) -> None:
        """Create or change an object, and its status if it has one."""
        body = {k: v for k, v in data.items() if k != "status"}
        await self._patch(path_of(data), body)
        if "status" in data:
            await self._patch(path_of(data) + "/status", {**body, "status": data["status"]})

    async def _patch(self, path: str, body: Data) -> None:
        await self.request("PATCH", f"{path}?fieldManager=e2e&force=true", body, "application/apply-patch+yaml")

    async def apply_all(self, objects: Iterable[Data]) -> None:
        """Definitions first, then namespaces, then the rest in parallel."""
        rest = list(objects)
        for first in ("CustomResourceDefinition", "Namespace"):
            chosen = [o for o in rest if o["kind"] == first]
            await asyncio.gather(*(self.apply(o) for o in chosen))
            rest = [o for o in rest if o["kind"] != first]
            if first == "CustomResourceDefinition":
                for crd in chosen:
                    await self.wait_established(crd["metadata"]["name"])
        await asyncio.gather(*(self.apply(o) for o in rest))

    async def delete(self, data: Data) -> None:
        """Delete an object at once."""
        await self.request("DELETE", f"{path_of(data)}?gracePeriodSeconds=0")

    async def wait_gone(self, data: Data) -> None:
        """Wait until an object no longer exists."""
        while (await self._session.get(path_of(data))).status != 404:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def wait_established(self, name: str) -> None:
        """Wait until a definition's kind can be listed."""
        while True:
            crd = await self.request("GET", f"{_CRDS}/{name}")
            conditions = {c["type"]: c["status"] for c in crd.get("status", {}).get("conditions") or ()}
            if conditions.get("Established") == "True":
                group = crd["spec"]["group"]
                versions = [v["name"] for v in crd["spec"]["versions"] if v["served"]]
                paths = [f"/apis/{group}/{v}/{crd['spec']['names']['plural']}" for v in versions]
                statuses = [(await self._session.get(path)).status for path in paths]
                if all(status == 200 for status in statuses):
                    return
            await asyncio.sleep(0.05)

    async def wipe(self) -> None:
        """Delete everything that tests made, but for the definitions; there need be no controller to help."""
        found = [o for o in await self.everything() if not _is_builtin(o)]
        namespaces = [o for o in found if o["kind"] == "Namespace"]
        await asyncio.gather(*(self.delete(o) for o in found if o["kind"] != "Namespace"))
        for data in namespaces:
            await self.delete(data)
            body = {**data, "metadata": {"name": data["metadata"]["name"]}, "spec": {"finalizers": []}}
            await self.request("PUT", f"{path_of(data)}/finalize", body)
            await self.wait_gone(data)

    async def definitions(self) -> set[str]:
        """The names of all resource definitions."""
        return {item["metadata"]["name"] for item in (await self.request("GET", _CRDS))["items"]}

    async def all_of(self, kind: Any) -> list[dict[str, Any]]:
        """All objects of a kind, in its first served version, in one request."""
        for version in kind.versions:
            base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
            status, text = await self._ask("GET", f"{base}/{kind.plural}")
            if status == 404:
                continue
            assert status == 200, text
            api_version = f"{kind.group}/{version}" if kind.group else version
            return [{**item, "apiVersion": api_version, "kind": kind.name} for item in json.loads(text)["items"]]
        return []

    async def everything(self) -> list[dict[str, Any]]:
        """All objects of all kinds that pypilot reads."""
        lists = await asyncio.gather(*(self.all_of(kind) for kind in KINDS))
        return [item for items in lists for item in items]
