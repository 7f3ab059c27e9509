"""`pypilot validate`."""

import json
from typing import Any

import click

from pypilot.cli.options import setting_options, settings_from


@click.command()
@click.argument("config", nargs=-1, required=True, type=click.Path(exists=True), metavar="PATH...")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Let warnings count as errors.")
@setting_options(["mesh_config", "root_namespace", "cluster_domain"])
def validate(output: str, strict: bool, **flags: Any) -> None:
    """Check files and directories of YAML. Exit code 1 if something is wrong.

    Each finding names its file, line and field. Warnings, as of fields and kinds that pypilot does not read, leave the
    exit code 0 unless --strict is given.
    """
    settings = settings_from(flags)
    from pypilot.admin.views import problem as as_json
    from pypilot.assembly import load
    from pypilot.cli.logs import configure_logs
    from pypilot.cli.problems import counted, problem_line

    configure_logs(level="warning")
    engine, problems = load(settings, generators={})
    if output == "json":
        click.echo(json.dumps([as_json(p) for p in problems], indent=1))
    else:
        for problem in problems:
            click.echo(problem_line(problem))
        objects = sum(len(objects) for objects in engine.world.objects.values())
        click.echo(f"{counted(problems)} in {objects} objects", err=True)
    if any(strict or p.severity == "error" for p in problems):
        raise SystemExit(1)
