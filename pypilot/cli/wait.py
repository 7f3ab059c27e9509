"""`pypilot wait`: holds an application back until its proxy is ready (PC-005). Flags are those of Istio's agent."""

import http.client
import time
from urllib.parse import urlsplit

import click


@click.command()
@click.option("--url", default="http://localhost:15021/healthz/ready", show_default=True, help="What to ask.")
@click.option("--timeoutSeconds", "seconds", default=60, show_default=True, help="How long to go on.")
@click.option("--requestTimeoutMillis", "request_millis", default=500, show_default=True, help="For one request.")
@click.option("--periodMillis", "period_millis", default=500, show_default=True, help="Between requests.")
def wait(url: str, seconds: int, request_millis: int, period_millis: int) -> None:
    """Wait until the proxy of this pod is ready. Exit code 1 if it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        reason = _why_not_ready(url, request_millis / 1000)
        if not reason:
            return
        if time.monotonic() + period_millis / 1000 > deadline:
            raise click.ClickException(f"the proxy is not ready after {seconds} s: {reason}")
        time.sleep(period_millis / 1000)


def _why_not_ready(url: str, timeout: float) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        return "" if answer.status == http.HTTPStatus.OK else f"HTTP status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
