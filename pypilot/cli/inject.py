"""`pypilot inject`: what the webhook would make of pods, without a cluster (INJ rows)."""

import sys
from pathlib import Path
from typing import Any

import click

from pypilot.cli.options import setting_options, settings_from

_SETTINGS = (
    "mesh_config", "root_namespace", "revision", "cluster_domain", "cluster_id", "proxy_image", "native_sidecars"
)  # fmt: skip


@click.command()
@click.option("-f", "--filename", required=True, metavar="FILE", help="Documents to inject into; - is the input.")
@click.option(
    "--config",
    multiple=True,
    type=click.Path(exists=True),
    metavar="PATH",
    help="Files of YAML with the mesh: ProxyConfigs, Nodes, the ConfigMaps `istio` and `pypilot-injection`.",
)
@setting_options(_SETTINGS)
def inject(filename: str, config: tuple[str, ...], **flags: Any) -> None:
    """Print documents with sidecars in their pods.

    Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, DeploymentConfigs, Jobs, CronJobs
    and Lists of them; labels of namespaces are not looked at. Text without any of them comes out as it went in.
    """
    settings = settings_from({**flags, "config": config})
    from pypilot.assembly import load
    from pypilot.cli.problems import problem_line
    from pypilot.injection.config import parse_injection_config
    from pypilot.injection.documents import inject_text
    from pypilot.injection.errors import InjectionError
    from pypilot.injection.installation import config_text, installation_of
    from pypilot.kinds.yaml_data import YamlError

    engine, problems = load(settings, generators={})
    for problem in problems:
        click.echo(problem_line(problem), err=True)
    try:
        data = sys.stdin.buffer.read() if filename == "-" else Path(filename).read_bytes()
        text = data.decode()
        injection = parse_injection_config(config_text(engine.world))
        installation = installation_of(engine.world, injection, settings.proxy_image, settings.native_sidecars)
        click.echo(inject_text(text, installation).encode(), nl=False)
    except YamlError as error:
        raise click.ClickException(f"{filename}:{error.line + 1}: not valid YAML: {error}") from None
    except (InjectionError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{filename}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{filename}: {error.strerror}") from None
