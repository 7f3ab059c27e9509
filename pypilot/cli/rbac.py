"""`pypilot rbac`."""

from typing import Any

import click

from pypilot.cli.options import setting_options, settings_from


@click.command()
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@setting_options(["namespaces", "root_namespace", "revision", "write_status"])
def rbac(output: str, **flags: Any) -> None:
    """Print the roles that `pypilot serve --kubernetes` needs, and their bindings to its service account.

    With --namespaces only Roles of these namespaces and of the root namespace.
    """
    settings = settings_from({**flags, "kubernetes": True})
    from pypilot.cli.manifests.access import access
    from pypilot.cli.manifests.rendering import as_json, as_yaml
    from pypilot.kinds import KINDS

    made = access(
        KINDS,
        root_namespace=settings.root_namespace,
        namespaces=settings.namespaces,
        revision=settings.revision,
        write_status=settings.write_status,
    )
    command = "pypilot rbac"
    if settings.namespaces:
        command += f" --namespaces {','.join(settings.namespaces)}"
    if settings.write_status:
        command += " --write-status"
    click.echo(as_json(made) if output == "json" else as_yaml(made, command), nl=False)
