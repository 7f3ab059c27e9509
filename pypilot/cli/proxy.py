"""`pypilot proxy sidecar|router|waypoint`: runs an Envoy with its identity. Told by variables, as Istio's agent is."""

import asyncio
import os
import sys
from dataclasses import replace

import click

from pypilot.proxy import log
from pypilot.proxy.settings import ROLES, AgentError, Role, read_agent_settings
from pypilot.settings import LogLevel

_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")
_OTHER_WORDS: dict[str, LogLevel] = {"warn": "warning", "none": "error", "fatal": "error"}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("role", type=click.Choice(ROLES))
@click.option("--domain", default="", help="DNS domain of the proxy; NAMESPACE.svc.cluster.local unless given.")
@click.option("--meshConfig", "mesh_file", default="/etc/istio/config/mesh", show_default=True, help="A MeshConfig.")
@click.option("--concurrency", default=0, help="Envoy's threads; better in ProxyConfig.")
@click.option("--proxyLogLevel", "log_level", default="warning", show_default=True, help="Of Envoy.")
@click.option("--proxyComponentLogLevel", "components", default="misc:error", show_default=True, help="Of its parts.")
@click.option("--log_output_level", "own_level", default="default:info", show_default=True, help="Of the agent.")
@click.argument("envoy_arguments", nargs=-1, type=click.UNPROCESSED)
def proxy(
    role: Role,
    domain: str,
    mesh_file: str,
    concurrency: int,
    log_level: str,
    components: str,
    own_level: str,
    envoy_arguments: tuple[str, ...],
) -> None:
    """Run Envoy beside an application (sidecar) or as a gateway (router). What follows `--` goes to Envoy."""
    from pypilot.proxy.agent import Agent, StartError

    async def run() -> int:
        settings = read_agent_settings(role, os.environ, domain, mesh_file)
        if concurrency:
            settings = replace(settings, threads=concurrency)
        return await Agent(settings, envoy_arguments, log_level, components, mesh_file).run()

    log.configure(_level(own_level))
    try:
        sys.exit(asyncio.run(run()))
    except (AgentError, StartError) as error:
        click.echo(f"pypilot proxy: {error}", err=True)
        sys.exit(1)


def _level(text: str) -> LogLevel:
    """`default:info,xds:debug` -> `info`: the agent has one level for all its parts."""
    said = dict(part.partition(":")[::2] for part in text.split(",") if ":" in part)
    level = said.get("default", said.get("all", text))
    words: dict[str, LogLevel] = {**{name: name for name in _LEVELS}, **_OTHER_WORDS}
    return words.get(level, "info")
