"""`pypilot serve`."""

import asyncio
import signal
from typing import Any

import click

from pypilot.cli.options import setting_options, settings_from
from pypilot.settings import SETTINGS, Settings


@click.command()
@click.option(
    "--config",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="File or directory of Kubernetes and Istio objects in YAML; watched; may be repeated.  [env: PYPILOT_CONFIG]",
)
@setting_options(SETTINGS)
def serve(**flags: Any) -> None:
    """Serve xDS to proxies from a Kubernetes cluster, from files of YAML, or both: files win over the cluster.

    All of it is watched: a change is on its way within milliseconds. A file or object that is wrong is reported with
    its line and field, and what was good before stays in force.
    SIGTERM and SIGINT let the streams end before the process does.
    """
    settings = settings_from(flags)
    if not (settings.config or settings.kubernetes):
        raise click.UsageError("nothing to serve: give --config PATH, --kubernetes or --kubeconfig FILE")
    from pypilot.cli.logs import configure_logs

    configure_logs(settings.log_format, settings.log_level)
    from pypilot.app import StartError

    try:
        asyncio.run(_serve(settings))
    except StartError as error:
        raise click.ClickException(str(error)) from None


async def _serve(settings: Settings) -> None:
    from pypilot.app import run

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await run(settings, stopped)
