import json
from typing import Annotated, Any, ClassVar

import pytest
import yaml
from click.testing import CliRunner
from msgspec import inspect

from pypilot.cli.main import main
from pypilot.cli.manifests.definitions import OWNED_GROUPS, definitions
from pypilot.cli.manifests.field_docs import field_docs
from pypilot.cli.manifests.schema import kind_schema
from pypilot.kinds import KINDS
from pypilot.kinds.base import NOT_IN_API, Kind, Object

CUSTOM = [kind for kind in KINDS if kind.group.endswith(OWNED_GROUPS)]


def run(*args: str) -> str:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result.stdout


def at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for step in path.split("."):
        schema = schema["items"] if step == "[]" else schema["properties"][step]
    return schema


def spec_of(name: str) -> dict[str, Any]:
    return kind_schema(next(kind for kind in CUSTOM if kind.name == name))


def test_one_definition_a_kind_in_all_versions_with_v1_stored() -> None:
    made = {crd["spec"]["names"]["kind"]: crd for crd in yaml.safe_load_all(run("crds"))}
    assert made.keys() == {kind.name for kind in CUSTOM} >= {"VirtualService", "Gateway"}
    for kind in CUSTOM:
        spec = made[kind.name]["spec"]
        assert [v["name"] for v in spec["versions"]] == list(kind.versions)
        assert [v["name"] for v in spec["versions"] if v["storage"]] == [kind.versions[0]]
        assert all(v["served"] and v["subresources"] == {"status": {}} for v in spec["versions"])
        assert len({json.dumps(v["schema"]) for v in spec["versions"]}) == 1


def test_names_as_istios() -> None:
    (crd,) = [c for c in definitions(KINDS) if c["spec"]["names"]["kind"] == "VirtualService"]
    assert crd["metadata"]["name"] == "virtualservices.networking.istio.io"
    assert crd["spec"]["names"] == {
        "kind": "VirtualService",
        "listKind": "VirtualServiceList",
        "plural": "virtualservices",
        "singular": "virtualservice",
        "shortNames": ["vs"],
        "categories": ["istio-io", "networking-istio-io"],
    }
    columns = [(c["name"], c["jsonPath"]) for c in crd["spec"]["versions"][0]["additionalPrinterColumns"]]
    age = ("Age", ".metadata.creationTimestamp")
    assert columns == [("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts"), age]


def test_types() -> None:
    rule, service, entry = spec_of("DestinationRule"), spec_of("VirtualService"), spec_of("ServiceEntry")
    route = at(service, "spec.http.[]")
    assert at(route, "timeout")["type"] == "string"
    weight = at(route, "route.[].weight")
    assert (weight["type"], weight["minimum"], weight["maximum"]) == ("integer", 0, 4294967295)
    assert at(route, "route.[]")["required"] == ["destination"]
    assert at(route, "mirrorPercentage.value")["type"] == "number"
    assert at(route, "redirect.derivePort")["enum"] == ["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]
    assert at(route, "match.[].headers")["additionalProperties"]["properties"].keys() == {"exact", "prefix", "regex"}
    assert at(route, "corsPolicy.allowCredentials")["type"] == "boolean"
    assert at(rule, "spec.trafficPolicy.outlierDetection.consecutive5xxErrors")["type"] == "integer"
    assert at(rule, "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute.[].from")["type"] == "string"
    assert rule["required"] == ["spec"]
    assert at(entry, "status.addresses.[].value")["type"] == "string"
    assert at(entry, "spec.ports.[].number")["maximum"] == 65535


def test_what_only_pypilot_knows_is_no_part_of_the_api() -> None:
    class Thing(Object, frozen=True, kw_only=True):
        KIND: ClassVar[str] = "Thing"

        mine: Annotated[str, NOT_IN_API] = ""
        theirs: str = ""

    assert kind_schema(Kind(Thing, "a.io", ("v1",), "things"))["properties"].keys() == {"theirs", "status"}


def objects_of(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    out = [(path, schema)]
    for name, part in schema.get("properties", {}).items():
        out += objects_of(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            out += objects_of(schema[key], f"{path}[]")
    return out


@pytest.mark.parametrize("kind", CUSTOM, ids=lambda kind: kind.name)
def test_fields_of_istio_that_are_not_known_are_kept(kind: Kind) -> None:
    checked = 0
    for path, schema in objects_of(kind_schema(kind), ""):
        if path and schema.get("type") == "object" and "additionalProperties" not in schema:
            assert schema["x-kubernetes-preserve-unknown-fields"] is True, path
            checked += 1
    assert checked >= 3


@pytest.mark.parametrize("kind", CUSTOM, ids=lambda kind: kind.name)
def test_every_field_is_explained(kind: Kind) -> None:
    schema = kind_schema(kind)
    del schema["properties"]["status"]
    for path, part in objects_of(schema, ""):
        assert path.endswith("[]") or part.get("description"), path


@pytest.mark.parametrize("kind", CUSTOM, ids=lambda kind: kind.name)
def test_every_field_of_the_kind_is_in_the_schema(kind: Kind) -> None:
    def count(info: inspect.Type) -> int:
        match info:
            case inspect.StructType():
                return sum(1 + count(field.type) for field in info.fields)
            case inspect.UnionType():
                return sum(count(part) for part in info.types)
            case inspect.VarTupleType():
                return count(info.item_type)
            case inspect.DictType():
                return count(info.value_type)
            case inspect.Metadata():
                return -1 if (info.extra or {}).get("api") is False else count(info.type)
        return 0

    info = inspect.type_info(kind.type)
    assert isinstance(info, inspect.StructType)
    wanted = sum(1 + count(f.type) for f in info.fields if f.name not in ("api_version", "metadata"))
    paths = {path for path, _ in objects_of(kind_schema(kind), "")}
    has_status = any(f.name == "status" for f in info.fields)
    named = {path for path in paths if path and not path.endswith("[]")}
    assert len(named) == wanted + (0 if has_status else 1)


class Base:
    inherited: int = 0
    """From above."""


class Derived(Base):
    own: str = ""
    """Said here."""
    silent: bool = False


def test_the_texts_below_fields_are_found() -> None:
    assert field_docs(Derived) == {"inherited": "From above.", "own": "Said here."}
    assert field_docs(dict) == {}


def test_json_is_one_list() -> None:
    made = json.loads(run("crds", "-o", "json"))
    assert made["kind"] == "List"
    assert len(made["items"]) == len(CUSTOM)


def test_rbac_for_single_namespaces_has_no_cluster_role() -> None:
    made = list(yaml.safe_load_all(run("rbac", "--namespaces", "a,b", "--root-namespace", "mesh")))
    assert {o["kind"] for o in made} == {"Role", "RoleBinding"}
    assert {o["metadata"]["namespace"] for o in made} == {"mesh", "a", "b"}
    assert {(s["namespace"], s["name"]) for o in made for s in o.get("subjects", ())} == {("mesh", "pypilot")}


def test_rbac_reads_every_kind_and_nothing_else() -> None:
    (role,) = [o for o in yaml.safe_load_all(run("rbac")) if o["kind"] == "ClusterRole"]
    reads = [rule for rule in role["rules"] if rule["verbs"] == ["get", "list", "watch"]]
    allowed = {(group, plural) for rule in reads for group in rule["apiGroups"] for plural in rule["resources"]}
    assert allowed == {(k.group, k.plural) for k in KINDS} | {("apiextensions.k8s.io", "customresourcedefinitions")}


def test_rbac_of_a_revision_has_names_of_its_own() -> None:
    text = run("rbac", "--revision", "canary")
    assert "pypilot-leader-canary" in text
    assert {o["metadata"]["name"] for o in yaml.safe_load_all(text)} == {
        "pypilot-canary",
        "pypilot-canary-istio-system",
    }
