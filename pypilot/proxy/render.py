"""Prints the bootstrap for the environment: `python -m pypilot.proxy.render ROLE VERSION [DOMAIN [MESH_FILE]]`.

A process of its own, because the messages that it is made of would stay in the agent's memory for ever.
"""

import json
import os
import socket
import sys
from dataclasses import replace

from pypilot.proxy.bootstrap.whole import bootstrap
from pypilot.proxy.node import node_identity
from pypilot.proxy.settings import ROLES, AgentSettings, read_agent_settings
from pypilot.proxy.values import AgentError, HostPort


def resolved(settings: AgentSettings) -> AgentSettings:
    """With the address of the server of metrics, which Envoy does not look up.

    Raises:
        AgentError: it has none.
    """
    statsd = settings.config.statsd
    if statsd is None:
        return settings
    try:
        found = socket.getaddrinfo(statsd.host, statsd.port, type=socket.SOCK_DGRAM)[0][4]
    except OSError as error:
        raise AgentError(f"statsdUdpAddress: {statsd.host}: {error.strerror}") from None
    config = replace(settings.config, statsd=HostPort(str(found[0]), statsd.port))
    return replace(settings, config=config)


def main() -> int:
    """Print it; 1 and a line on stderr if the environment is wrong."""
    role, version, *rest = sys.argv[1:]
    domain, mesh_file = (*rest, "", "")[:2]
    try:
        found = next(r for r in ROLES if r == role)
        settings = resolved(read_agent_settings(found, os.environ, domain, mesh_file))
        made = bootstrap(settings, node_identity(settings, version))
    except AgentError as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(made, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
