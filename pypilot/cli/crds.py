"""`pypilot crds`."""

import click


@click.command()
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def crds(output: str) -> None:
    """Print the CustomResourceDefinitions of Istio's kinds that pypilot reads.

    For clusters without Istio's own:

        pypilot crds | kubectl apply --server-side --field-manager=pypilot -f -

    changes nothing that somebody else installed: kubectl reports a conflict for those, and makes the others.
    """
    from pypilot.cli.manifests.definitions import definitions
    from pypilot.cli.manifests.rendering import as_json, as_yaml
    from pypilot.kinds import KINDS

    made = definitions(KINDS)
    click.echo(as_json(made) if output == "json" else as_yaml(made, "pypilot crds"), nl=False)
