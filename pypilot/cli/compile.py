"""`pypilot compile`."""

import json
from pathlib import Path
from typing import IO, Any

import click

from pypilot.cli.options import setting_options, settings_from
from pypilot.wire.node import NodeError, Proxy

_FIRST = ["@type", "name", "cluster_name"]
TYPES = ("CDS", "LDS", "EDS", "RDS", "SDS", "ECDS")


def read_proxy(text: str) -> Proxy:
    """The proxy of a Node in protobuf JSON, read as a server reads it off the wire.

    Raises:
        click.ClickException: it is none.
    """
    from envoy.config.core.v3.base_pb2 import Node
    from google.protobuf.json_format import ParseDict, ParseError

    from pypilot.xds.identity import read_node
    from pypilot.xds.shared import Shared

    try:
        return read_node(ParseDict(json.loads(text), Node(), ignore_unknown_fields=True), Shared())
    except (ValueError, ParseError, NodeError) as error:
        raise click.ClickException(f"--node: {error}") from None


@click.command("compile")
@click.argument("config", nargs=-1, required=True, type=click.Path(exists=True), metavar="PATH...")
@click.option(
    "--node", required=True, type=click.File(), help="The proxy: an Envoy Node as JSON (- for standard input)."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write DIR/CDS.json, …, one file a type.")
@click.option("--type", "kind", type=click.Choice(TYPES), help="Only resources of this type.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@setting_options(["mesh_config", "root_namespace", "cluster_domain", "cluster_id", "ambient", "compliance_policy"])
def compile_(node: IO[str], out: Path | None, kind: str | None, output: str, **flags: Any) -> None:
    """Print what one proxy would be sent for these files and directories, exactly as the server would send it.

    Of the types that are asked for by name (EDS, RDS, SDS), those are shown that the others refer to, as Envoy would
    subscribe to them. Private keys appear as their SHA-256.
    """
    settings = settings_from(flags)
    proxy = read_proxy(node.read())
    from pypilot.assembly import load
    from pypilot.cli.logs import configure_logs
    from pypilot.cli.problems import problem_line
    from pypilot.compile.generators import GENERATORS
    from pypilot.engine.loop import CompileFailedError
    from pypilot.wire.references import held_by
    from pypilot.wire.resource import EMPTY
    from pypilot.wire.types import short_name
    from pypilot.world.delta import Problem

    configure_logs(level="warning")
    engine, problems = load(settings, GENERATORS)
    feed = engine.open(proxy, lambda: None)
    offered, failed = dict.fromkeys(GENERATORS, EMPTY), []
    for type_url in GENERATORS:
        try:
            offered[type_url] = feed.current(type_url)
        except CompileFailedError as error:
            failed.append(Problem(str(error), code="compile-failed"))
    for problem in (*problems, *failed):
        if problem.severity == "error":
            click.echo(problem_line(problem), err=True)
    held = held_by(offered)
    found = {short_name(url): [{"name": n, "resource": r} for n, r in by.items()] for url, by in held.items()}
    resources = {name: found.get(name, []) for name in TYPES}
    if kind is not None:
        resources = {kind: resources[kind]}
    if out is None:
        click.echo(_shown(resources[kind] if kind is not None else resources, output), nl=False)
    else:
        _write(resources, out)
    if failed:
        raise SystemExit(1)


def _write(resources: dict[str, list[dict[str, Any]]], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, entries in resources.items():
        (out / f"{name}.json").write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    counts = ", ".join(f"{len(entries)} {name}" for name, entries in resources.items())
    click.echo(f"{counts} written to {out}", err=True)


def _shown(data: Any, output: str) -> str:
    if output == "json":
        return json.dumps(data, indent=1, sort_keys=True) + "\n"
    import yaml

    text: str = yaml.dump(
        _ordered(data), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, width=120
    )
    return text


def _ordered(data: Any) -> Any:
    """Plain data with its keys in one order, whatever the order of protobuf's maps; what identifies comes first."""
    if isinstance(data, dict):
        keys = sorted(data, key=lambda key: (_FIRST.index(key) if key in _FIRST else len(_FIRST), key))
        return {key: _ordered(data[key]) for key in keys}
    return [_ordered(item) for item in data] if isinstance(data, list) else data
