"""`pypilot request`: asks this pod's agent or Envoy something. Arguments are those of Istio's agent (INJ-005)."""

import http.client
from typing import Final

import click

_SECONDS: Final = 60.0


@click.command()
@click.option("--debug-port", "port", default=15000, show_default=True, help="Envoy's; the agent's is 15020.")
@click.argument("method")
@click.argument("path")
@click.argument("body", default="")
def request(port: int, method: str, path: str, body: str) -> None:
    """Send METHOD PATH [BODY] to a port of this pod's proxy, and print the answer."""
    connection = http.client.HTTPConnection("localhost", port, timeout=_SECONDS)
    try:
        connection.request(method.upper(), f"/{path.removeprefix('/')}", body or None)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"localhost:{port}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    click.echo(text)
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise click.ClickException(f"HTTP status {answer.status}")
