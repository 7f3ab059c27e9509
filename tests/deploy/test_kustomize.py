"""What the kustomizations build. Needs kubectl."""

import json
import os
import shutil
from pathlib import Path

from pypilot.settings import Settings
from tests.deploy.manifests import KUSTOMIZE, Data, find, kustomized


def test_the_top_level_has_control_plane_and_gateway_but_no_definitions() -> None:
    objects = kustomized()
    assert find(objects, "Deployment", "pypilot", "istio-system")
    assert find(objects, "Deployment", "istio-ingressgateway", "istio-system")
    assert "CustomResourceDefinition" not in {o["kind"] for o in objects}
    assert {o["kind"] for o in kustomized("crds")} == {"CustomResourceDefinition"}


def test_images_are_named_with_their_tags() -> None:
    for name in ("", "cluster", "namespaced", "samples"):
        for workload in (o for o in kustomized(name) if o["kind"] == "Deployment"):
            for container in workload["spec"]["template"]["spec"]["containers"]:
                assert container["image"].startswith(("pypilot:", "pypilot-sidecar:"))


def test_the_image_of_injected_pods_is_the_settings_default_until_images_say_otherwise(tmp_path: Path) -> None:
    def given(objects: list[Data]) -> str:
        container = find(objects, "Deployment", "pypilot")["spec"]["template"]["spec"]["containers"][0]
        return next(e["value"] for e in container["env"] if e["name"] == "PYPILOT_PROXY_IMAGE")

    assert given(kustomized()) == given(kustomized("namespaced")) == Settings().proxy_image
    overlay = {
        "resources": [os.path.relpath(KUSTOMIZE, tmp_path.resolve())],
        "images": [{"name": "pypilot-sidecar", "newName": "registry.example/sidecar", "newTag": "v2"}],
        "configurations": ["image-fields.yaml"],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    shutil.copy(KUSTOMIZE / "base" / "image-fields.yaml", tmp_path)
    assert given(kustomized(tmp_path)) == "registry.example/sidecar:v2"


def test_the_namespaced_overlay_needs_no_right_in_the_cluster() -> None:
    objects = kustomized("namespaced")
    assert all(o["metadata"].get("namespace") for o in objects)
    container = find(objects, "Deployment", "pypilot")["spec"]["template"]["spec"]["containers"][0]
    given = next(e["value"] for e in container["env"] if e["name"] == "PYPILOT_NAMESPACES")
    assert {o["metadata"]["namespace"] for o in objects if o["kind"] == "Role"} == {"istio-system", *given.split(",")}


def test_the_samples_live_in_one_namespace() -> None:
    assert {o["metadata"].get("namespace", o["metadata"]["name"]) for o in kustomized("samples")} == {"shop"}
