"""A server in memory with status subresources and DELETE, as CustomResources have them."""

from typing import Any

from pypilot.kube.connection import JSON, Answer
from pypilot.kube.errors import ApiError
from tests.kube.fake_api import FakeApi


class Api(FakeApi):
    """What is written to a status changes nothing else, and the other way round."""

    async def send(self, method: str, path: str, body: Any, content_type: str = JSON, seconds: float = 30.0) -> Answer:
        if method == "DELETE":
            self.calls.append((method, path, body))
            self._check(self.fault, method, path)
            if path not in self.objects:
                raise ApiError(404, "gone")
            if body["preconditions"]["resourceVersion"] != self.objects[path]["metadata"]["resourceVersion"]:
                raise ApiError(409, "the object has been modified")
            self.remove(path)
            return Answer(JSON, b"{}")
        if method == "PUT" and path.endswith("/status"):
            self._check(self.fault, method, path)
            path = path.removesuffix("/status")
            body = {**self.objects[path], "status": body["status"], "metadata": body["metadata"]}
        elif method == "PUT" and path in self.objects:
            body = {**body, "status": self.objects[path].get("status", {})}
        return await super().send(method, path, body, content_type, seconds)
