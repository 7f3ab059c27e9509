"""Golden pairs of injection: `tests/golden_injection/CASE/in.yaml`, `out.yaml`. Refresh with `pytest --update-golden`.

`in.yaml` is a stream. Its first document may hold, all optional:

- `mesh:` MeshConfig; `injection:` what the ConfigMap `pypilot-injection` says; `revision:`, `native:` (default: auto);
- `path:` what follows `/inject`;
- `show:` parts of each result: `spec.containers[istio-proxy].args`; everything without it.

Then come Nodes and ProxyConfigs of the mesh, and pods and workloads to be injected. `out.yaml` has what became of
these, in order: the parts, `same: true` if nothing was injected, or `refused:` and why. Each pod is also sent through
the webhook, and injected twice.
"""

import base64
import json
from pathlib import Path
from typing import Any

import yaml

from pypilot.injection.documents import inject_document
from pypilot.injection.errors import InjectionError
from pypilot.injection.inject import inject
from pypilot.injection.installation import config_map_ref
from pypilot.injection.patch import json_patch
from pypilot.kinds import kind_of
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.kinds.parse import parse_object
from pypilot.webhook.injector import Injector, variables_of
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import Constants, World
from tests.injection.patching import applied

ROOT = Path(__file__).parents[1] / "golden_injection"
IMAGE = "pypilot-sidecar:0.1.0"
MESH_KINDS = ("Node", "ProxyConfig", "Namespace")


def cases() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("*/in.yaml"))


def _world(head: dict[str, Any], objects: list[Any]) -> World:
    constants = Constants(revision=head.get("revision", "default"))
    ref = config_map_ref(constants)
    data = {"metadata": {"name": ref.name, "namespace": ref.namespace}}
    data["data"] = {"injection": yaml.safe_dump(head.get("injection", {}))}
    upserts = []
    for each in ({"apiVersion": "v1", "kind": ConfigMap.KIND, **data}, *objects):
        kind = kind_of(each["apiVersion"], each["kind"])
        assert kind is not None
        parsed = parse_object(kind, each)
        assert parsed.object is not None, parsed.findings
        upserts.append(parsed.object)
    mesh, findings = parse_mesh_config(yaml.safe_dump(head.get("mesh", {})))
    assert mesh is not None, findings
    return advance(World(constants), Delta(tuple(upserts), mesh=mesh))


def outcome(case: str) -> str:
    """What `out.yaml` should be."""
    documents = list(yaml.safe_load_all((ROOT / case / "in.yaml").read_text()))
    head = documents.pop(0) if "kind" not in documents[0] else {}
    world = _world(head, [d for d in documents if d["kind"] in MESH_KINDS])
    injector = Injector(lambda: world, IMAGE, head.get("native", "auto"))
    path = head.get("path", "")
    out: list[Any] = []
    for document in (d for d in documents if d["kind"] not in MESH_KINDS):
        try:
            made = _injected(injector, document, path)
        except InjectionError as error:
            out.append({"refused": str(error)})
            continue
        if made is document:
            out.append({"same": True})
        else:
            out.append({part: shown(made, part) for part in head["show"]} if "show" in head else made)
    return yaml.safe_dump_all(out, sort_keys=False, width=120)


def _injected(injector: Injector, document: Any, path: str) -> Any:
    installation = injector.installation()
    if document["kind"] != "Pod":
        made = inject_document(document, installation)
        assert json_patch(made, inject_document(made, installation)) == []
        return made
    namespace = document["metadata"].get("namespace", "default")
    answer = injector.answer(review(document, namespace), path)["response"]
    if not answer["allowed"]:
        raise InjectionError(answer["status"]["message"])
    if "patch" not in answer:
        return document
    made = applied(json.loads(base64.b64decode(answer["patch"])), document)
    again = inject(made, namespace, installation, variables_of(path))
    assert json_patch(made, again) == []
    return made


def review(pod: Any, namespace: str = "shop", operation: str = "CREATE") -> dict[str, Any]:
    request = {"uid": "u1", "operation": operation, "namespace": namespace, "object": pod}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def shown(data: Any, path: str) -> Any:
    """`a.b[NAME].c`; what is absent is None."""
    for step in path.replace("]", "").replace("[", ".[").split("."):
        if data is None:
            return None
        if step.startswith("["):
            data = next((item for item in data if item["name"] == step[1:]), None)
        elif isinstance(data, list):
            data = [item.get(step) for item in data]
        else:
            data = data.get(step.replace("~", "."))
    return data
