"""Golden pairs: `tests/golden/AREA/CASE/in.yaml` compiled must be `out.yaml`. Refresh with `pytest --update-golden`.

`in.yaml` holds ordinary Istio and Kubernetes documents, and these, all optional but `show`:

- `node:` a Node in JSON form, or its parts: type, name, namespace, ip, labels, metadata, extensions (default: a sidecar
  of Istio's build, `client` in namespace `default`);
- `mesh:` MeshConfig;
- `findings:` the fields that parsing must complain about (default: none);
- `show:` what `out.yaml` holds: `RDS`, or `RDS:80`, `CDS:outbound|80*` for one name or a prefix.

Everything is compiled twice, plainly and through the engine's memo, and must come out the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.kinds.parse import parse_object
from pypilot.wire import types
from pypilot.wire.decode import resource_to_dict
from pypilot.wire.node import Proxy, parse_node
from pypilot.wire.resource import Resource
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World

ROOT = Path(__file__).parent / "golden"
_WARNINGS = frozenset(
    {"deprecated-field", "unsupported-field", "no-effect", "unreachable-rule", "repeated-name", "refused"}
)
"""Of objects that are used as they are; they need not be listed under `findings`."""


def cases() -> list[str]:
    """`AREA/CASE` of every pair."""
    return sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/in.yaml"))


@dataclass
class Case:
    """One `in.yaml`, read."""

    world: World
    proxy: Proxy
    show: list[str]
    findings: list[str] = field(default_factory=list)
    expected_findings: list[str] = field(default_factory=list)


def node(parts: Mapping[str, Any]) -> Proxy:
    """A proxy from a whole Node or from its interesting parts."""
    if "id" in parts:
        return parse_node(parts)
    namespace = parts.get("namespace", "default")
    name, kind, ip = parts.get("name", "client"), parts.get("type", "sidecar"), parts.get("ip", "10.1.0.1")
    return parse_node(
        {
            "id": f"{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local",
            "metadata": {
                "NAMESPACE": namespace,
                "INSTANCE_IPS": ip,
                **({} if "extensions" in parts else {"ISTIO_VERSION": "1.30.0"}),
                "LABELS": {"app": name, **parts.get("labels", {})},
                **parts.get("metadata", {}),
            },
            "extensions": [{"name": e} for e in parts.get("extensions", [])],
        }
    )


def read_case(text: str) -> Case:
    """Read the documents of an `in.yaml`."""
    mesh: MeshConfig | None = None
    proxy, show = node({}), []
    objects: list[Object] = []
    findings: list[tuple[str, str]] = []
    expected: list[str] = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        if "kind" in document:
            kind = kind_of(document["apiVersion"], document["kind"])
            assert kind is not None, f"unknown kind {document['kind']}"
            if kind.namespaced:
                document["metadata"].setdefault("namespace", "default")
            parsed = parse_object(kind, document)
            findings.extend((f"{document['metadata']['name']}: {f.field}", f.code) for f in parsed.findings)
            if parsed.object is not None:
                objects.append(parsed.object)
            continue
        for key, value in document.items():
            match key:
                case "node":
                    proxy = node(value)
                case "mesh":
                    mesh, _ = parse_mesh_config(yaml.safe_dump(value))
                case "show":
                    show.extend(value)
                case "findings":
                    expected.extend(value)
                case _:
                    raise AssertionError(f"unknown key {key!r}")
    world = advance(World(), Delta(upserts=tuple(objects), mesh=mesh))
    complaints = [text for text, code in findings if code not in _WARNINGS or text in expected]
    return Case(world, proxy, show, complaints, expected)


def generate(case: Case, short: str) -> list[Resource]:
    """All resources of one type, in the generator's order; the same through the memo."""
    generator = GENERATORS[types.BY_SHORT[short]]
    plain = generator(Reader(case.world), case.proxy)
    remembered = Memo(case.world).root(generator, case.proxy)
    assert plain == remembered, f"{short}: the memo changes the outcome"
    return list(plain)


def decode(resource: Resource) -> dict[str, Any]:
    """The resource in proto3 JSON form with the field names of the .proto files."""
    # Through text: an Any of a well-known type comes as an OrderedDict, which YAML cannot write.
    decoded: dict[str, Any] = json.loads(json.dumps(resource_to_dict(resource)))
    return decoded


def _selected(name: str, wanted: str) -> bool:
    return not wanted or name == wanted or (wanted.endswith("*") and name.startswith(wanted[:-1]))


def compile_case(case: Case) -> dict[str, dict[str, Any]]:
    """Type -> name -> decoded resource, as `show` selects them."""
    out: dict[str, dict[str, Any]] = {}
    for entry in case.show:
        short, _, wanted = entry.partition(":")
        assert short in types.BY_SHORT, f"unknown type {short!r} in show"
        resources = generate(case, short)
        out.setdefault(short, {}).update({r.name: decode(r) for r in resources if _selected(r.name, wanted)})
    return out


def render(out: Mapping[str, Any]) -> str:
    """The text of an `out.yaml`."""
    return yaml.safe_dump(dict(out), sort_keys=True, width=120, allow_unicode=True)
