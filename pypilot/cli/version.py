"""`pypilot version`."""

import json

import click

from pypilot import __version__


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def version(output: str) -> None:
    """Print the version."""
    click.echo(
        json.dumps({"name": "pypilot", "version": __version__}) if output == "json" else f"pypilot {__version__}"
    )
