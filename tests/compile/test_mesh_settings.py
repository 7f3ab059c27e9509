"""What single fields of MeshConfig and of a proxy's labels change, seen in what the proxy is sent."""

import json
from typing import Any

import pytest

from pypilot.compile.policies.selection import mutual_tls, policy_set
from pypilot.compile.targets import workload_labels
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.golden import compile_case, node, read_case
from tests.world.objects import endpoint_slice, make, pod, service

WEB = """
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: base},
 spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}}
"""
CLUSTER = "outbound|80||web.base.svc.cluster.local"


def compiled(text: str) -> dict[str, dict[str, Any]]:
    return compile_case(read_case(text))


def rules_of(root: str) -> str:
    """A DestinationRule, a Sidecar and an EnvoyFilter for everybody, if `root` is the root namespace."""
    return f"""
---
{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d, namespace: {root}}},
 spec: {{host: web.base.svc.cluster.local, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: s, namespace: {root}}},
 spec: {{egress: [{{hosts: [base/*]}}]}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: other, namespace: elsewhere}},
 spec: {{clusterIP: 10.0.0.2, ports: [{{name: http, port: 81}}]}}}}
---
{{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {{name: f, namespace: {root}}},
 spec: {{configPatches: [{{applyTo: ROUTE_CONFIGURATION,
   patch: {{operation: MERGE, value: {{request_headers_to_remove: [x]}}}}}}]}}}}
"""


@pytest.mark.parametrize(
    ("mesh", "root", "holds"),
    [
        ("{}", "istio-system", True),
        ("{}", "mesh-root", False),
        ("{rootNamespace: mesh-root}", "mesh-root", True),
        ("{rootNamespace: mesh-root}", "istio-system", False),
    ],
)
def test_the_root_namespace_is_where_rules_for_all_are(mesh: str, root: str, holds: bool) -> None:
    """MESH-005, of the kinds that there are."""
    out = compiled(f'mesh: {mesh}\nnode: {{namespace: shop}}\nshow: [CDS, "RDS:80"]\n{WEB}{rules_of(root)}')
    assert (out["CDS"][CLUSTER].get("lb_policy") == "RANDOM") is holds
    assert ("outbound|81||other.elsewhere.svc.cluster.local" not in out["CDS"]) is holds
    assert ("request_headers_to_remove" in out["RDS"]["80"]) is holds
    policies = (
        make("AuthorizationPolicy", "all", root, spec={"rules": [{}]}),
        make("RequestAuthentication", "jwt", root, spec={"jwtRules": [{"issuer": "a", "jwks": '{"keys": []}'}]}),
        make("PeerAuthentication", "default", root, spec={"mtls": {"mode": "STRICT"}}),
    )
    name = "mesh-root" if "mesh-root" in mesh else "istio-system"
    reader = Reader(advance(World(), Delta(upserts=policies, mesh=MeshConfig(root_namespace=name))))
    found = policy_set(reader, node({"namespace": "shop"}))
    assert [ref.name for ref in found.allow] == (["all"] if holds else [])
    assert [ref.name for ref in found.authentication] == (["jwt"] if holds else [])
    assert (mutual_tls(reader, "shop", ()).of(80) == "STRICT") is holds


@pytest.mark.parametrize("domain", ["cluster.local", "corp.example"])
def test_the_trust_domain_is_in_every_identity(domain: str) -> None:
    """MESH-006: in the SANs of servers, and in the prefix that clients must have. KSVC-032: pods' accounts are SANs."""
    mesh = MeshConfig() if domain == "cluster.local" else MeshConfig(trust_domain=domain)
    case = read_case("node: {name: web-1, ip: 10.1.0.1}\nshow: [CDS, LDS]\n")
    case.world = advance(
        World(),
        Delta(
            upserts=(
                service("web"),
                pod("web-1", "10.1.0.1", app="web"),
                make("Pod", "web-2", labels={"app": "web"}, status={"podIP": "10.1.0.2"}),
                endpoint_slice("web", {"web-1": "10.1.0.1", "web-2": "10.1.0.2"}),
                make("PeerAuthentication", "default", spec={"mtls": {"mode": "STRICT"}}),
            ),
            mesh=mesh,
        ),
    )
    out = compile_case(case)
    text = json.dumps(out["CDS"]["outbound|80||web.default.svc.cluster.local"])
    assert [text.count(f'"spiffe://{domain}/ns/default/sa/{name}"') for name in ("web", "default")] == [1, 1]
    assert f'{{"prefix": "spiffe://{domain}/"}}' in json.dumps(out["LDS"]["virtualInbound"])


@pytest.mark.parametrize(("mesh", "automatic"), [("{}", True), ("{enableAutoMtls: false}", False)])
def test_mutual_tls_comes_by_itself_unless_the_mesh_says_no(mesh: str, automatic: bool) -> None:
    """MESH-009."""
    cluster = compiled(f'mesh: {mesh}\nshow: ["CDS:outbound*"]\n{WEB}')["CDS"][CLUSTER]
    names = [match["name"] for match in cluster.get("transport_socket_matches", ())]
    assert ("tlsMode-istio" in names) is automatic
    assert "transport_socket" not in cluster


@pytest.mark.parametrize("mode", ["istio", ""])
def test_the_label_of_a_pod_says_that_it_speaks_mutual_tls(mode: str) -> None:
    """KSVC-031: labels choose the subset and say tlsMode; without that label the pod gets plaintext."""
    case = read_case("node: {namespace: default}\nshow: [EDS]\n")
    labels = {"app": "web", "version": "v1", "service.istio.io/canonical-name": "site"}
    labels |= {"service.istio.io/canonical-revision": "r7"}
    labels |= {"security.istio.io/tlsMode": mode} if mode else {}
    case.world = advance(
        World(),
        Delta(
            upserts=(
                service("web"),
                make("Pod", "web-1", labels=labels, status={"podIP": "10.1.0.1"}),
                make("Pod", "web-2", labels={"app": "web", "version": "v2"}, status={"podIP": "10.1.0.2"}),
                endpoint_slice("web", {"web-1": "10.1.0.1", "web-2": "10.1.0.2"}),
                make(
                    "DestinationRule",
                    "web",
                    spec={"host": "web", "subsets": [{"name": "v", "labels": {"version": "v1"}}]},
                ),
            )
        ),
    )
    subset = compile_case(case)["EDS"]["outbound|80|v|web.default.svc.cluster.local"]
    (found,) = [e for locality in subset["endpoints"] for e in locality["lb_endpoints"]]
    assert found["endpoint"]["address"]["socket_address"]["address"] == "10.1.0.1"
    metadata = found["metadata"]["filter_metadata"]
    assert metadata.get("envoy.transport_socket_match", {}).get("tlsMode", "") == mode
    assert ";site;r7;" in metadata["istio"]["workload"]


KINDS = {
    "defaultServiceExportTo": "Service",
    "defaultVirtualServiceExportTo": "VirtualService",
    "defaultDestinationRuleExportTo": "DestinationRule",
}


@pytest.mark.parametrize("own", ["", 'exportTo: ["*"], '])
@pytest.mark.parametrize("field", KINDS)
def test_where_objects_are_seen_that_do_not_say_it(field: str, own: str) -> None:
    """MESH-016: an exportTo of the object's own wins."""
    rules = f"""
---
{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: v, namespace: base}},
 spec: {{{own}hosts: [web.base.svc.cluster.local], http: [{{name: seen, directResponse: {{status: 403}}}}]}}}}
---
{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d, namespace: base}},
 spec: {{{own}host: web.base.svc.cluster.local, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}}}}}
"""
    annotated = "name: web, annotations: {networking.istio.io/exportTo: '*'}" if own else "name: web"
    # The rules of a service's own namespace are asked for by the service's client, hence seen from another one.
    for mesh, seen in (("{}", True), (f'{{{field}: ["."]}}', bool(own)), (f"{{{field}: [shop]}}", True)):
        text = f'mesh: {mesh}\nnode: {{namespace: shop}}\nshow: ["CDS:outbound*", "RDS:80"]\n'
        out = compiled(text + WEB.replace("name: web", annotated) + rules)
        cluster = out["CDS"].get(CLUSTER)
        if field == "defaultServiceExportTo":
            assert (cluster is not None) is seen
            continue
        assert cluster is not None
        shown = {
            "VirtualService": '"seen"' in json.dumps(out["RDS"]),
            "DestinationRule": cluster.get("lb_policy") == "RANDOM",
        }
        assert shown == {kind: seen if KINDS[field] == kind else True for kind in shown}


@pytest.mark.parametrize("known", [True, False])
def test_labels_of_the_pod_win_over_those_of_the_node(known: bool) -> None:
    """NODE-009: for Sidecars, EnvoyFilters, source labels, workload selectors of DestinationRules, and Gateways."""
    made = "{apiVersion: networking.istio.io/v1, kind: %s, metadata: {name: %s, namespace: base}, spec: %s}"
    selector = "workloadSelector: {%s: {app: real}}"
    hosts = "hosts: [web.base.svc.cluster.local]"
    rule = "[{name: mine, match: [{sourceLabels: {app: real}}], directResponse: {status: 403}}]"
    patch = "{operation: MERGE, value: {request_headers_to_remove: [x]}}"
    server = "{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}"
    documents = [
        made % ("VirtualService", "v", f"{{{hosts}, http: {rule}}}"),
        made
        % (
            "DestinationRule",
            "d",
            f"{{host: web, {selector % 'matchLabels'}, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}}}",
        ),
        made % ("Sidecar", "s", f"{{{selector % 'labels'}, egress: [{{hosts: [base/*]}}]}}"),
        (
            made
            % (
                "EnvoyFilter",
                "f",
                f"{{{selector % 'labels'}, configPatches: [{{applyTo: ROUTE_CONFIGURATION, patch: {patch}}}]}}",
            )
        ).replace("io/v1", "io/v1alpha3"),
        made % ("Gateway", "g", f"{{selector: {{app: real}}, servers: [{server}]}}"),
        "{apiVersion: v1, kind: Service, metadata: {name: other, namespace: elsewhere}, "
        "spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 81}]}}",
    ]
    if known:
        documents.append(
            "{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: base, labels: {app: real}}, "
            "status: {podIP: 10.1.0.1}}"
        )
    label = "stale" if known else "real"
    for stated in (label, "stale" if label == "real" else "other"):
        holds = known or stated == "real"
        part = f"name: client, namespace: base, ip: 10.1.0.1, labels: {{app: {stated}}}"
        text = WEB + "".join(f"\n---\n{document}" for document in documents)
        out = compiled(f'node: {{{part}}}\nshow: [CDS, "RDS:80"]\n{text}')
        assert (out["CDS"][CLUSTER].get("lb_policy") == "RANDOM") is holds
        assert ("outbound|81||other.elsewhere.svc.cluster.local" not in out["CDS"]) is holds
        assert ("request_headers_to_remove" in out["RDS"]["80"]) is holds
        assert ('"mine"' in json.dumps(out["RDS"])) is holds
        edge = compiled(f"node: {{type: router, {part}}}\nshow: [LDS]\n{text}")
        assert ("0.0.0.0_8080" in edge["LDS"]) is holds


@pytest.mark.parametrize(
    ("pods", "node_label", "name"),
    [("real", "stale", "real"), (None, "stated", "stated"), ("", "stale", "unknown"), (None, "", "unknown")],
)
def test_traces_name_the_service_by_the_label_of_the_pod(pods: str | None, node_label: str, name: str) -> None:
    """NODE-009: the name of the workload does not stand in for the label."""
    label = "service.istio.io/canonical-name"
    labels = f"{{{label}: {node_label}}}" if node_label else "{}"
    text = f"node: {{name: client, ip: 10.1.0.1, labels: {labels}, metadata: {{WORKLOAD_NAME: made-by}}}}\n"
    text += f'show: ["LDS:0.0.0.0_80"]\n{WEB}'
    if pods is not None:
        carried = f"app: client, {label}: {pods}" if pods else "app: client"
        meta = f"{{name: client, namespace: default, labels: {{{carried}}}}}"
        text += f"---\n{{apiVersion: v1, kind: Pod, metadata: {meta}, status: {{podIP: 10.1.0.1}}}}\n"
    made = json.dumps(compiled(text)["LDS"])
    tag = {"literal": {"value": name}, "tag": "istio.canonical_service"}
    assert json.dumps(tag) in made or json.dumps(dict(reversed(tag.items()))) in made


@pytest.mark.parametrize("known", [True, False])
def test_labels_of_a_machine_are_those_of_its_entry(known: bool) -> None:
    """NODE-009: for policies, mutual TLS and EnvoyFilters as for everything else, once a ServiceEntry has the entry."""
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    entry = {"hosts": ["vm.example"], "resolution": "STATIC", "location": "MESH_INTERNAL", "ports": ports}
    selector = {"selector": {"matchLabels": {"role": "real"}}}
    value = {"request_headers_to_remove": ["x"]}
    patch = {"applyTo": "ROUTE_CONFIGURATION", "patch": {"operation": "MERGE", "value": value}}
    objects = [
        make("WorkloadEntry", "vm", spec={"address": "10.1.0.1", "labels": {"app": "vm", "role": "real"}}),
        make("AuthorizationPolicy", "p", spec={**selector, "rules": [{}]}),
        make("PeerAuthentication", "p", spec={**selector, "mtls": {"mode": "STRICT"}}),
        make("EnvoyFilter", "f", spec={"workloadSelector": {"labels": {"role": "real"}}, "configPatches": [patch]}),
        service("web", "base"),
    ]
    if known:
        objects.append(make("ServiceEntry", "vm", spec={**entry, "workloadSelector": {"labels": {"app": "vm"}}}))
    case = read_case('node: {name: vm-1, ip: 10.1.0.1, labels: {app: vm, role: stale}}\nshow: ["RDS:80"]\n')
    case.world = advance(World(), Delta(upserts=tuple(objects)))
    reader = Reader(case.world)
    assert [ref.name for ref in policy_set(reader, case.proxy).allow] == (["p"] if known else [])
    assert (mutual_tls(reader, "default", workload_labels(reader, case.proxy)).of(80) == "STRICT") is known
    assert ("request_headers_to_remove" in compile_case(case)["RDS"]["80"]) is known


@pytest.mark.parametrize(("version", "patched"), [("1.30.0", True), ("1.29.4", False), ("", False)])
def test_a_version_decides_on_patches_and_its_lack_on_istios_filters(version: str, patched: bool) -> None:
    """NODE-010."""
    filters = """
---
{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: f, namespace: default},
 spec: {configPatches: [{applyTo: ROUTE_CONFIGURATION, match: {proxy: {proxyVersion: '^1\\.30'}},
   patch: {operation: MERGE, value: {request_headers_to_remove: [x]}}}]}}
"""
    text = f'node: {{metadata: {{ISTIO_VERSION: "{version}"}}}}\nshow: ["RDS:80", "LDS:0.0.0.0_80"]\n{WEB}{filters}'
    out = compiled(text)
    assert ("request_headers_to_remove" in out["RDS"]["80"]) is patched
    assert ("istio.alpn" in json.dumps(out["LDS"])) is bool(version)
