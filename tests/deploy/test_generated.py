"""Files that follow from something else are current. Refresh with `pytest --update-golden`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pypilot import __version__
from pypilot.cli.main import main
from pypilot.cli.manifests.access import rules
from pypilot.cli.manifests.rendering import as_yaml
from pypilot.kinds import KINDS
from pypilot.webhook import mutating, validating
from tests.deploy.manifests import CHART, DEPLOY, KUSTOMIZE


def printed(*arguments: str) -> Callable[[], str]:
    """What a command prints."""

    def run() -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def webhook() -> str:
    return as_yaml([validating.webhook_configuration(KINDS, ROOT)], "pytest tests/deploy --update-golden")


def injection() -> str:
    return as_yaml([mutating.webhook_configuration(ROOT)], "pytest tests/deploy --update-golden")


def access_rules() -> str:
    return as_yaml([asdict(rules(KINDS, root_namespace=ROOT))], "pytest tests/deploy --update-golden")


ROOT = "istio-system"
GENERATED: dict[Path, Callable[[], str]] = {
    KUSTOMIZE / "crds/crds.yaml": printed("crds"),
    KUSTOMIZE / "cluster/rbac.yaml": printed("rbac"),
    KUSTOMIZE / "cluster/webhook.yaml": webhook,
    KUSTOMIZE / "cluster/injection.yaml": injection,
    KUSTOMIZE / "namespaced/rbac.yaml": printed("rbac", "--namespaces", "shop"),
    # A chart can read only its own files.
    CHART / "files/crds.yaml": printed("crds"),
    CHART / "files/rules.yaml": access_rules,
    CHART / "files/webhook.yaml": webhook,
    CHART / "files/injection.yaml": injection,
}


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_generated_file_is_current(path: Path, request: pytest.FixtureRequest) -> None:
    text = GENERATED[path]()
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.read_text() == text, "run pytest tests/deploy --update-golden"


def test_the_versions_are_those_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    tags = {
        image["newTag"]
        for path in KUSTOMIZE.glob("**/kustomization.yaml")
        for image in yaml.safe_load(path.read_text()).get("images", ())
    }
    assert tags == {__version__}
