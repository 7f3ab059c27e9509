"""`pypilot proxy sidecar|router|waypoint`: runs an Envoy with its identity. Told by variables, as Istio's agent is."""

import asyncio
import os
import sys

import click

from pypilot.cli.logs import configure_logs
from pypilot.proxy.settings import ROLES, AgentError, Role, read_agent_settings


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("role", type=click.Choice(ROLES))
@click.option("--domain", default="", help="DNS domain of the proxy; NAMESPACE.svc.cluster.local unless given.")
@click.argument("envoy_arguments", nargs=-1, type=click.UNPROCESSED)
def proxy(role: Role, domain: str, envoy_arguments: tuple[str, ...]) -> None:
    """Run Envoy beside an application (sidecar) or as a gateway (router). What follows `--` goes to Envoy."""
    from pypilot.proxy.agent import Agent, StartError

    async def run() -> int:
        return await Agent(read_agent_settings(role, os.environ, domain), envoy_arguments).run()

    configure_logs()
    try:
        sys.exit(asyncio.run(run()))
    except (AgentError, StartError) as error:
        click.echo(f"pypilot proxy: {error}", err=True)
        sys.exit(1)
