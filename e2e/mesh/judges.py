"""Authorizers of a mesh's own, over HTTP and over gRPC, as services of the world outside."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy.type.v3.http_status_pb2 import HttpStatus

from e2e.mesh.mesh import Mesh
from e2e.mesh.network import passage
from e2e.mesh.world import JUDGE, made
from e2e.outcomes.objects import Json
from e2e.outcomes.servers import App

HTTP_PORT, GRPC_PORT = 8000, 9001
CHECK = "/envoy.service.auth.v3.Authorization/Check"


def judge() -> Json:
    """The authorizer as a service; there need be nobody."""
    return made(
        "ServiceEntry",
        "judge",
        {
            "hosts": ["judge.example"],
            "ports": [
                {"number": HTTP_PORT, "name": "http", "protocol": "HTTP"},
                {"number": GRPC_PORT, "name": "grpc", "protocol": "GRPC"},
            ],
            "resolution": "STATIC",
            "endpoints": [{"address": JUDGE}],
        },
    )


def provider(form: str = "Http", **said: Any) -> Json:
    """MeshConfig that names it."""
    port = HTTP_PORT if form == "Http" else GRPC_PORT
    about = {"service": "judge.example", "port": port, "timeout": "5s", **said}
    return {"extensionProviders": [{"name": "judge", f"envoyExtAuthz{form}": about}]}


@asynccontextmanager
async def over_http(mesh: Mesh) -> AsyncIterator[App]:
    """Says yes to what ends with `good`."""

    async def decide(request: web.Request) -> web.Response:
        app.bodies.append(await request.read())
        if request.path.endswith("good"):
            return web.Response(headers={"x-judged": "yes", "x-other": "kept", "x-told": "welcome"})
        return web.Response(status=401, text="go away", headers={"x-reason": "bad", "x-other": "kept"})

    app = _Judge("judge", respond=decide, listen=mesh.hub.listen, where=(JUDGE, HTTP_PORT))
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


@dataclass(slots=True)
class _Judge(App):
    bodies: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def over_grpc(mesh: Mesh) -> AsyncIterator[list[AttributeContext]]:
    """Says yes to paths that end with `good`, and to connections of whom it knows; gives all that it was asked."""
    asked: list[AttributeContext] = []

    async def check(request: CheckRequest, _: Any) -> CheckResponse:
        asked.append(request.attributes)
        http = request.attributes.request.http
        if http.path.endswith("good") or (not http.path and request.attributes.source.principal):
            return CheckResponse(ok_response=OkHttpResponse(headers=[_header("x-judged", "yes")]))
        denied = DeniedHttpResponse(status=HttpStatus(code=418), headers=[_header("x-reason", "bad")], body="no")  # type: ignore[arg-type]
        response = CheckResponse(denied_response=denied)
        response.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
        return response

    method = grpc.unary_unary_rpc_method_handler(check, CheckRequest.FromString, CheckResponse.SerializeToString)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connect: Callable[[], socket.socket] = lambda: socket.create_connection(("127.0.0.1", port))  # noqa: E731
    try:
        async with passage(mesh.hub.listen(JUDGE, GRPC_PORT), connect):
            yield asked
    finally:
        await server.stop(0)


def _header(key: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(header=HeaderValue(key=key, value=value))
