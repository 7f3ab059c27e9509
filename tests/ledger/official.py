"""Derive the lists of official field names in `tests/ledger/official/` from Istio's published definitions.

    python -m tests.ledger.official crds.yaml              # the kinds: crd-all.gen.yaml of istio/api
    python -m tests.ledger.official --proto DIR            # MeshConfig: a checkout of istio/api

Only names of fields are kept, as a tree: one space of indent per level, `[]` after a list of messages, `{}` after a map
of messages.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

OFFICIAL = Path(__file__).parent / "official"
GROUPS = ("networking.istio.io", "security.istio.io")
MESH_PROTOS = (
    "mesh/v1alpha1/config.proto",
    "mesh/v1alpha1/proxy.proto",
    "mesh/v1alpha1/network.proto",
    "networking/v1alpha3/destination_rule.proto",
    "networking/v1alpha3/virtual_service.proto",
    "networking/v1beta1/proxy_config.proto",
    "type/v1beta1/selector.proto",
)
ROOTS = {"MeshConfig": "istio.mesh.v1alpha1.MeshConfig", "MeshNetworks": "istio.mesh.v1alpha1.MeshNetworks"}

Tree: TypeAlias = dict[str, Any]


def write_tree(tree: Tree, depth: int = 0) -> str:
    return "".join(f"{' ' * depth}{name}\n{write_tree(below, depth + 1)}" for name, below in sorted(tree.items()))


def read_tree(text: str) -> Tree:
    root: Tree = {}
    stack = [root]
    for line in text.splitlines():
        name = line.lstrip(" ")
        depth = len(line) - len(name)
        del stack[depth + 1 :]
        stack.append(stack[-1].setdefault(name, {}))
    return root


def official(kind: str) -> Tree:
    """The fields of a kind; empty if the kind is not Istio's."""
    path = OFFICIAL / f"{kind}.txt"
    return read_tree(path.read_text()) if path.exists() else {}


def _united(a: Tree, b: Tree) -> Tree:
    return {name: _united(a.get(name, {}), b.get(name, {})) for name in a.keys() | b.keys()}


# -- resource definitions ---------------------------------------------------------------------------------------------


def _of_schema(schema: Mapping[str, Any]) -> tuple[str, Tree]:
    """The suffix that a field of this schema has, and what is below it."""
    if schema.get("type") == "array":
        suffix, below = _of_schema(schema.get("items") or {})
        return (f"[]{suffix}", below) if below else ("", {})
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        suffix, below = _of_schema(values)
        return (f"{{}}{suffix}", below) if below else ("", {})
    tree: Tree = {}
    for name, field in (schema.get("properties") or {}).items():
        suffix, below = _of_schema(field)
        tree[name + suffix] = below
    return "", tree


def from_definitions(text: str) -> Iterator[tuple[str, Tree]]:
    """Each kind with its fields, of all versions."""
    for definition in yaml.safe_load_all(text):
        if definition is None or definition["spec"]["group"] not in GROUPS:
            continue
        tree: Tree = {}
        for version in definition["spec"]["versions"]:
            tree = _united(tree, _of_schema(version["schema"]["openAPIV3Schema"]["properties"]["spec"])[1])
        yield definition["spec"]["names"]["kind"], {"spec": tree}


# -- protobuf ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"(?P<open>(?:message|oneof|enum|extend)\s+[\w.]+\s*\{)|(?P<close>\})"
    r"|(?P<field>(?:repeated\s+|optional\s+)?(?:map\s*<[^>]*>|[\w.]+)\s+\w+\s*=\s*\d+\s*(?:\[[^\]]*\])?\s*;)"
)
_FIELD = re.compile(r"(repeated\s+|optional\s+)?(map\s*<\s*\w+\s*,\s*([\w.]+)\s*>|[\w.]+)\s+(\w+)\s*=\s*\d+(.*)", re.S)
Message: TypeAlias = dict[str, tuple[str, str]]


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _messages(text: str) -> Iterator[tuple[str, Message]]:
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    package = re.search(r"^package\s+([\w.]+);", text, re.M)
    assert package is not None
    scopes: list[tuple[str, str, Message]] = []
    for token in _TOKEN.finditer(text):
        if token["open"]:
            what, name = token["open"].rstrip("{").split()
            owner = next((s[1] for s in reversed(scopes) if s[0] == "message"), package[1])
            scopes.append((what, f"{owner}.{name}", {}))
        elif token["close"]:
            if scopes and (scope := scopes.pop())[0] == "message":
                yield scope[1], scope[2]
        elif scopes and scopes[-1][0] != "enum" and (field := _FIELD.match(token["field"])):
            message = next(s[2] for s in reversed(scopes) if s[0] == "message")
            json_name = re.search(r'json_name\s*=\s*"(\w+)"', field[5])
            suffix = "{}" if field[3] else "[]" if (field[1] or "").startswith("repeated") else ""
            message[json_name[1] if json_name else _camel(field[4])] = (field[3] or field[2], suffix)


def _resolved(name: str, scope: str, messages: Mapping[str, Message]) -> str:
    """The full name of a type as written within a message."""
    name = name.lstrip(".")
    while scope:
        if f"{scope}.{name}" in messages:
            return f"{scope}.{name}"
        scope = scope.rpartition(".")[0]
    return name


def _expanded(name: str, messages: Mapping[str, Message], above: tuple[str, ...] = ()) -> Tree:
    tree: Tree = {}
    for field, (written, suffix) in messages.get(name, {}).items():
        of = _resolved(written, name, messages)
        below = _expanded(of, messages, (*above, name)) if of not in (*above, name) else {}
        tree[field + (suffix if below else "")] = below
    return tree


def from_protos(root: Path) -> Iterator[tuple[str, Tree]]:
    """The fields of `ROOTS`."""
    messages = {name: m for path in MESH_PROTOS for name, m in _messages((root / path).read_text())}
    for kind, name in ROOTS.items():
        yield kind, _expanded(name, messages)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--proto"]:
        found = from_protos(Path(arguments[1]))
    else:
        found = from_definitions(Path(arguments[0]).read_text())
    for kind, tree in found:
        (OFFICIAL / f"{kind}.txt").write_text(write_tree(tree))
        print(kind, write_tree(tree).count("\n"))


if __name__ == "__main__":
    main(sys.argv[1:])
