"""The end of the shared installation: the last file of this directory, by its name."""

from e2e.cluster.installation import NAMESPACES, Installation


def test_nothing_is_left_when_it_is_removed(installation: Installation) -> None:
    installation.remove()
    kubectl = installation.kubectl
    assert [name for name in NAMESPACES if kubectl.exists("namespace", name)] == []
    assert "part-of=pypilot" not in kubectl("get", "clusterroles,clusterrolebindings", "--show-labels")
    assert not kubectl.exists("validatingwebhookconfiguration", "pypilot-validator-istio-system")
    assert not kubectl.exists("mutatingwebhookconfiguration", "istio-sidecar-injector")
    assert installation.published_roots() == installation.roots_before
