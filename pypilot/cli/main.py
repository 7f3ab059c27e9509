"""`pypilot COMMAND`. Commands are imported only when they are called, so that help is quick and each process small."""

from importlib import import_module
from typing import Any, NamedTuple

import click

from pypilot import __version__


class _Entry(NamedTuple):
    module: str
    name: str
    help: str


COMMANDS = {
    "serve": _Entry("pypilot.cli.serve", "serve", "Serve xDS to proxies from files of YAML."),
    "compile": _Entry("pypilot.cli.compile", "compile_", "Print what one proxy would be sent; no server needed."),
    "validate": _Entry("pypilot.cli.validate", "validate", "Check files of YAML, with file, line and field."),
    "crds": _Entry("pypilot.cli.crds", "crds", "Print the resource definitions (CRDs) of Istio's kinds."),
    "rbac": _Entry("pypilot.cli.rbac", "rbac", "Print the roles that pypilot needs in a cluster."),
    "proxy": _Entry("pypilot.cli.proxy", "proxy", "Run an Envoy with its identity: sidecar or gateway."),
    "token": _Entry("pypilot.cli.token", "token", "Keys and tokens of service accounts, without a cluster."),
    "inject": _Entry("pypilot.cli.inject", "inject", "Print workloads with sidecars in their pods."),
    "request": _Entry("pypilot.cli.request", "request", "Ask this pod's proxy something."),
    "wait": _Entry("pypilot.cli.wait", "wait", "Wait until the proxy of this pod is ready."),
    "iptables": _Entry("pypilot.cli.iptables", "iptables", "Send a pod's traffic to its Envoy."),
    "echo": _Entry("pypilot.cli.echo", "echo", "Answer HTTP requests with what was seen, for samples."),
    "demo": _Entry("pypilot.cli.demo.command", "demo", "Run real Envoys and real traffic on this machine."),
    "version": _Entry("pypilot.cli.version", "version", "Print the version."),
}
_ISTIO_NAMES = {"istio-iptables": "iptables"}
"""What injected pods call commands by, so that they start with images of Istio's, too (INJ-006)."""


class _Lazy(click.Group):
    """A group that knows its commands by name alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(_ISTIO_NAMES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        command: click.Command = getattr(import_module(entry.module), entry.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message} Commands: {', '.join(COMMANDS)}.", ctx) from None


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pypilot")
def main() -> None:
    """A lightweight control plane for Envoy: Istio and Kubernetes configuration in, xDS out."""
