"""`pypilot echo`: an HTTP server that answers with who it is and what it saw, for samples and tests of a deployment.

It knows nothing of Envoy or Istio, and must not: it stands for anybody's application.
"""

import asyncio
import json
import signal
import socket

import click
from aiohttp import web

_LONGEST_DELAY_MS = 3_600_000


@click.command()
@click.option("--host", default="0.0.0.0", show_default=True, help="Where to listen.")  # noqa: S104 - a server in a pod
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one.")
@click.option("--name", default="echo", show_default=True, help="What it calls itself.")
@click.option("--version", default="", help="Which version of that it is.")
@click.option("--grace", type=float, default=10.0, show_default=True, help="Seconds for open requests when stopping.")
def echo(host: str, port: int, name: str, version: str, grace: float) -> None:
    """Answer every HTTP request with JSON: name, version, hostname, method, host, path and headers.

    /delay?ms=N answers after N milliseconds, /status/CODE with that status. SIGTERM and SIGINT let open requests end.
    """
    try:
        asyncio.run(_serve(host, port, echo_app(name, version, socket.gethostname()), grace))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def echo_app(name: str, version: str, hostname: str) -> web.Application:
    """The application."""

    async def answer(request: web.Request) -> web.Response:
        status = 200
        if request.path == "/delay":
            await asyncio.sleep(_number(request.query.get("ms", ""), 0, _LONGEST_DELAY_MS) / 1000)
        elif request.path.startswith("/status/"):
            status = _number(request.path.removeprefix("/status/"), 200, 599)
        await request.read()
        seen = {
            "name": name,
            "version": version,
            "hostname": hostname,
            "method": request.method,
            "host": request.host,
            "path": request.path_qs,
            "headers": {k.lower(): v for k, v in request.headers.items()},
        }
        served_by = {"x-served-by": f"{name}-{version}".rstrip("-")}
        text = json.dumps(seen, indent=1) + "\n"
        return web.Response(text=text, status=status, headers=served_by, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


def _number(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise web.HTTPBadRequest(text=f"{text!r} is not a number from {least} to {most}\n")
    return int(text)


async def _serve(host: str, port: int, app: web.Application, grace: float) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        click.echo(f"listening on {host}:{runner.addresses[0][1]}")
        await stopped.wait()
    finally:
        await runner.cleanup()
