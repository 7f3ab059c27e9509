"""Prints the bootstrap for the environment: `python -m pypilot.proxy.render ROLE VERSION [DOMAIN]`.

A process of its own, because the messages that it is made of would stay in the agent's memory for ever.
"""

import json
import os
import sys

from pypilot.proxy.bootstrap import bootstrap
from pypilot.proxy.node import node_identity
from pypilot.proxy.settings import ROLES, AgentError, read_agent_settings


def main() -> int:
    """Print it; 1 and a line on stderr if the environment is wrong."""
    role, version, domain = sys.argv[1], sys.argv[2], (sys.argv[3] if len(sys.argv) > 3 else "")
    try:
        found = next(r for r in ROLES if r == role)
        settings = read_agent_settings(found, os.environ, domain)
    except AgentError as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(bootstrap(settings, node_identity(settings, version)), sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
