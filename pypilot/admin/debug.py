"""The HTTP port: `/ready` and `/debug/…` (CTL rows). Thin: what a page says is made in `views` and `config_dump`."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from pypilot.admin import views
from pypilot.admin.config_dump import config_dump
from pypilot.admin.facts import Facts, find_connections
from pypilot.world.reader import Reader

Handler = Callable[[web.Request], Awaitable[web.Response]]

PAGES = {
    "/debug/syncz": "what each proxy was sent and what it accepted",
    "/debug/config_dump?proxyID=NAME.NAMESPACE": "the configuration of one proxy (&include_eds for endpoints)",
    "/debug/problems": "everything that is wrong with the configuration",
    "/debug/warnings": "what has no effect or refers to nothing (?kind=, namespace=, name=, code=)",
    "/debug/connections": "the connected proxies and what they watch",
    "/debug/kinds": "how many objects of each kind are known, and how watching them goes",
    "/debug/views": "how well proxies share, and what was compiled",
    "/debug/cluster": "who leads, and what the leader keeps right in the cluster",
    "/debug/mesh": "the MeshConfig in force",
    "/debug/networks": "the mesh networks in force",
    "/ready": "200 once there is something to serve",
}

_dumps = partial(json.dumps, indent=1)


def _json(data: Any, status: int = 200) -> web.Response:
    return web.json_response(data, status=status, dumps=_dumps)


def ready_handler(facts: Facts) -> Handler:
    """200 or 503 (CTL-002)."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if facts.is_ready() else web.Response(text="not ready\n", status=503)

    return ready


def debug_app(facts: Facts) -> web.Application:
    """The application of the HTTP port."""

    async def index(_: web.Request) -> web.Response:
        rows = "".join(f'<li><a href="{path}">{path}</a>: {text}</li>' for path, text in PAGES.items())
        return web.Response(text=f"<!doctype html><title>pypilot</title><ul>{rows}</ul>", content_type="text/html")

    async def syncz(_: web.Request) -> web.Response:
        return _json(views.syncz(facts.connections()))

    async def connections(_: web.Request) -> web.Response:
        return _json([views.connection(c) for c in facts.connections()])

    async def problems(_: web.Request) -> web.Response:
        return _json([views.problem(p) for p in await facts.problems()])

    async def warnings(request: web.Request) -> web.Response:
        wanted = {key: request.query[key] for key in ("kind", "namespace", "name", "code") if key in request.query}
        return _json(views.warnings(await facts.problems(), wanted))

    async def kinds(_: web.Request) -> web.Response:
        return _json(views.kinds(facts.engine.world, facts.cluster()))

    async def view_counts(_: web.Request) -> web.Response:
        return _json(views.engine(facts.engine.statistics()))

    async def mesh(_: web.Request) -> web.Response:
        return _json(msgspec.to_builtins(Reader(facts.engine.world).mesh(), enc_hook=str))

    async def networks(_: web.Request) -> web.Response:
        return _json(msgspec.to_builtins(Reader(facts.engine.world).mesh_networks()))

    async def cluster(_: web.Request) -> web.Response:
        return _json(msgspec.to_builtins(facts.services()))

    async def dump(request: web.Request) -> web.Response:
        proxy_id = request.query.get("proxyID", "")
        if not proxy_id:
            return _json({"error": "want ?proxyID=NAME.NAMESPACE or a node id", "known": _known(facts)}, 400)
        found = find_connections(facts.connections(), proxy_id)
        if not found:
            return _json({"error": f"no connected proxy {proxy_id!r}", "known": _known(facts)}, 404)
        proxies = dict.fromkeys(c.proxy for c in found)
        if len(proxies) > 1:
            return _json({"error": f"{proxy_id!r} means several", "known": sorted(p.id for p in proxies)}, 400)
        offered = facts.engine.compile_for(next(iter(proxies)))
        return _json(config_dump(offered, with_endpoints="include_eds" in request.query))

    app = web.Application()
    app.add_routes(
        [
            web.get("/ready", ready_handler(facts)),
            web.get("/debug", index),
            web.get("/debug/", index),
            web.get("/debug/syncz", syncz),
            web.get("/debug/config_dump", dump),
            web.get("/debug/problems", problems),
            web.get("/debug/warnings", warnings),
            web.get("/debug/connections", connections),
            web.get("/debug/kinds", kinds),
            web.get("/debug/views", view_counts),
            web.get("/debug/mesh", mesh),
            web.get("/debug/networks", networks),
            web.get("/debug/cluster", cluster),
        ]
    )
    return app


def _known(facts: Facts) -> list[str]:
    return sorted({c.proxy.id for c in facts.connections()})
