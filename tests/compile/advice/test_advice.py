"""References that resolve to nothing are named; corrected ones are not; and nothing that is compiled depends on it."""

from typing import Any

import pytest

from pypilot.compile.advice import ADVISERS
from pypilot.engine.loop import Engine
from pypilot.kinds.base import Object
from pypilot.kinds.codes import CODES
from pypilot.world.advance import advance
from pypilot.world.delta import Delta, Problem
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.world.objects import make, service

SECRET = {"data": {"tls.crt": "YQ==", "tls.key": "YQ=="}}


def advice(*objects: Object) -> list[tuple[str, str]]:
    """(field, code) of all findings."""
    world = advance(World(), Delta(upserts=objects))
    reader = Reader(world)
    found = [f for obj in objects if obj.KIND in ADVISERS for f in ADVISERS[obj.KIND](reader, obj.ref)]
    assert all(f.severity == "warning" and f.code in CODES and f.field and f.message for f in found)
    return [(f.field, f.code) for f in found]


def route(host: str, /, **destination: Any) -> dict[str, Any]:
    return {"route": [{"destination": {"host": host, **destination}}]}


def virtual_service(*http: dict[str, Any], name: str = "v", namespace: str = "default", **spec: Any) -> Object:
    return make("VirtualService", name, namespace, spec={"hosts": ["a.example"], "http": list(http), **spec})


def rule(host: str, *subsets: str, namespace: str = "default", **spec: Any) -> Object:
    body = {"host": host, "subsets": [{"name": s, "labels": {"version": s}} for s in subsets], **spec}
    return make("DestinationRule", "r", namespace, spec=body)


def gateway(*hosts: str, namespace: str = "default", **tls: Any) -> Object:
    server = {"port": {"number": 443, "name": "x", "protocol": "HTTPS"}, "hosts": list(hosts), "tls": tls}
    if not tls:
        server = {"port": {"number": 80, "name": "x", "protocol": "HTTP"}, "hosts": list(hosts)}
    return make("Gateway", "g", namespace, spec={"selector": {"istio": "in"}, "servers": [server]})


def entry(host: str, *ports: int, **spec: Any) -> Object:
    numbers = [{"number": n, "name": f"http-{n}", "protocol": "HTTP"} for n in ports]
    return make("ServiceEntry", "e", spec={"hosts": [host], "ports": numbers, "resolution": "DNS", **spec})


HOST = "spec.http[0].route[0].destination.host"
PORT = "spec.http[0].route[0].destination.port"


def test_a_host_that_nobody_has() -> None:
    assert advice(virtual_service(route("nobody"))) == [(HOST, "unknown-host")]
    assert advice(virtual_service(route("b")), service("b")) == []
    assert advice(virtual_service(route("b")), service("b", "other")) == [(HOST, "unknown-host")]
    assert advice(virtual_service(route("b.other.svc.cluster.local")), service("b", "other")) == []


def test_a_host_that_is_not_shown_to_this_namespace() -> None:
    hidden = service("b", "other", annotations={"networking.istio.io/exportTo": "."})
    assert advice(virtual_service(route("b.other.svc.cluster.local")), hidden) == [(HOST, "unknown-host")]
    shown = service("b", "other", annotations={"networking.istio.io/exportTo": "default"})
    assert advice(virtual_service(route("b.other.svc.cluster.local")), shown) == []


def test_a_gateway_in_another_namespace_may_see_what_the_rule_s_own_does_not() -> None:
    hidden = service("b", "other", annotations={"networking.istio.io/exportTo": "."})
    at_gateway = virtual_service(route("b.other.svc.cluster.local"), gateways=["other/g"])
    assert advice(at_gateway, hidden, gateway("*", namespace="other")) == []


def test_a_wildcard_entry_is_a_service_for_what_it_covers() -> None:
    wildcard = entry("*.example.org", 80, resolution="NONE")
    assert advice(virtual_service(route("x.example.org")), wildcard) == []
    assert advice(virtual_service(route("x.example.com")), wildcard) == [(HOST, "unknown-host")]


def test_mirrors_and_tcp_are_looked_at_too() -> None:
    http = {**route("b"), "mirror": {"host": "m"}, "mirrors": [{"destination": {"host": "n"}}]}
    tcp = make("VirtualService", "t", spec={"hosts": ["b"], "tcp": [route("x")], "http": [http]})
    assert [f for f, _ in advice(tcp, service("b"))] == [
        "spec.http[0].mirror.host",
        "spec.http[0].mirrors[0].destination.host",
        "spec.tcp[0].route[0].destination.host",
    ]


def test_a_subset_that_no_rule_defines() -> None:
    subset = [("spec.http[0].route[0].destination.subset", "unknown-subset")]
    to_v1 = virtual_service(route("b", subset="v1"))
    assert advice(to_v1, service("b")) == subset
    assert advice(to_v1, service("b"), rule("b", "v2")) == subset
    assert advice(to_v1, service("b"), rule("b", "v1")) == []
    assert advice(to_v1, service("b"), rule("*.local", "v1")) == []
    selected = rule("b", "v1", workloadSelector={"matchLabels": {"app": "x"}})
    assert advice(to_v1, service("b"), selected) == []


def test_ports() -> None:
    two = entry("b.example", 80, 81)
    assert advice(virtual_service(route("b.example", port={"number": 82})), two) == [(f"{PORT}.number", "unknown-port")]
    assert advice(virtual_service(route("b.example", port={"number": 81})), two) == []
    assert advice(virtual_service(route("b.example")), two) == [(PORT, "unknown-port")]
    assert advice(virtual_service(route("b.example")), entry("b.example", 80)) == []
    same = make("VirtualService", "v", spec={"hosts": ["b.example"], "http": [route("b.example")]})
    assert advice(same, two) == []  # the port that was called (SEEN-018)


def test_a_gateway_that_does_not_exist() -> None:
    bound = virtual_service(route("b"), gateways=["g", "mesh"])
    assert advice(bound, service("b")) == [("spec.gateways[0]", "unknown-gateway")]
    assert advice(bound, service("b"), gateway("*")) == []


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        (["*.example"], []),
        (["other.example"], ["host-not-in-gateway"]),
        (["./a.example"], []),
        (["x/a.example"], ["host-not-in-gateway"]),
    ],
)
def test_a_gateway_that_does_not_serve_the_host(hosts: list[str], found: list[str]) -> None:
    bound = virtual_service(route("b"), gateways=["g"])
    assert [code for _, code in advice(bound, service("b"), gateway(*hosts))] == found


def test_delegates() -> None:
    root = virtual_service({"delegate": {"name": "d"}})
    at = [("spec.http[0].delegate", "unknown-delegate")]
    own = route("b")
    assert advice(root) == at
    assert advice(root, service("b"), virtual_service(own, name="d", hosts=[])) == []
    assert advice(root, service("b"), virtual_service(own, name="d", hosts=["x.example"])) == at
    assert advice(root, service("b"), virtual_service(own, name="d", hosts=[], exportTo=["other"])) == at


def test_two_rules_for_one_host_in_the_mesh() -> None:
    first = virtual_service(route("b"), name="a")
    second = virtual_service(route("b"), name="z")
    assert advice(first, second, service("b")) == [("spec.hosts[0]", "conflicting-hosts")]
    elsewhere = virtual_service(route("b"), name="z", gateways=["g"])
    assert advice(first, elsewhere, service("b"), gateway("*")) == []
    private = [virtual_service(route("b"), name=n, exportTo=[e]) for n, e in (("a", "x"), ("z", "y"))]
    assert advice(*private, service("b")) == []


def test_a_rule_for_a_host_that_nobody_has() -> None:
    assert advice(rule("nobody")) == [("spec.host", "unknown-host")]
    assert advice(rule("*.nobody.example")) == []
    assert advice(rule("b"), service("b")) == []
    assert advice(rule("b.default.svc.cluster.local", namespace="other"), service("b")) == []


def slice_of(name: str, version: str) -> tuple[Object, Object]:
    labels = {"app": name, "version": version}
    pod = make("Pod", f"{name}-1", labels=labels, status={"podIP": "10.1.1.1", "phase": "Running"})
    target = {"kind": "Pod", "name": f"{name}-1", "namespace": "default"}
    slice_ = make(
        "EndpointSlice",
        f"{name}-s",
        labels={"kubernetes.io/service-name": name},
        endpoints=[{"addresses": ["10.1.1.1"], "targetRef": target}],
        ports=[{"name": "http", "port": 80}],
    )
    return pod, slice_


def test_a_subset_without_endpoints() -> None:
    assert advice(rule("b", "v1", "v2"), service("b"), *slice_of("b", "v1")) == [
        ("spec.subsets[1].labels", "no-endpoint")
    ]
    assert advice(rule("b", "v1", "v2"), service("b")) == []  # nothing is known of its endpoints


def test_credentials() -> None:
    simple = gateway("*", mode="SIMPLE", credentialName="cert")
    at = [("spec.servers[0].tls.credentialName", "unknown-credential")]
    assert advice(simple) == at
    assert advice(simple, make("Secret", "cert", **SECRET)) == []
    before = service("in", "gateways", spec={"selector": {"istio": "in", "app": "in"}})
    assert advice(simple, before, make("Secret", "cert", **SECRET)) == at  # the workloads are elsewhere
    assert advice(simple, before, make("Secret", "cert", "gateways", **SECRET)) == []
    assert advice(gateway("*", mode="PASSTHROUGH", credentialName="cert")) == []
    several = gateway("*", mode="SIMPLE", credentialNames=["cert", "other"])
    assert advice(several, make("Secret", "cert", **SECRET)) == [
        ("spec.servers[0].tls.credentialNames[1]", "unknown-credential")
    ]
    mutual = gateway("*", mode="MUTUAL", credentialName="cert", caCertCredentialName="ca")
    assert advice(mutual, make("Secret", "cert", **SECRET)) == [
        ("spec.servers[0].tls.caCertCredentialName", "unknown-credential")
    ]


# -- through the engine -----------------------------------------------------------------------------------------------


def engine() -> Engine:
    return Engine({}, advisers=ADVISERS)


def shown(found: tuple[Problem, ...]) -> list[tuple[str, str, str]]:
    return [(str(p.ref), p.field, p.code) for p in found]


def test_a_warning_goes_when_its_cause_goes_and_comes_back_with_it() -> None:
    one = engine()
    assert one.problems() == ()
    idle = one.memo.statistics()["entries"]
    one.load(Delta(upserts=(virtual_service(route("b")),)))
    warned = [("VirtualService default/v", HOST, "unknown-host")]
    assert shown(one.problems()) == warned
    one.load(Delta(upserts=(service("b"),)))
    assert one.problems() == ()
    one.load(Delta(removals=(service("b").ref,)))
    assert shown(one.problems()) == warned
    one.load(Delta(removals=(virtual_service(route("b")).ref,)))
    assert one.problems() == ()
    assert one.memo.statistics()["entries"] == idle


def test_only_what_a_change_can_touch_is_looked_at_again() -> None:
    one = engine()
    many = [virtual_service(route(f"s{i}"), name=f"v{i}", hosts=[f"h{i}.example"]) for i in range(20)]
    one.load(Delta(upserts=(*many, *(service(f"s{i}") for i in range(20)))))
    assert one.problems() == ()
    before = one.memo.computed["virtual_service_advice"]
    one.load(Delta(removals=(service("s7").ref,)))
    assert [str(p.ref) for p in one.problems()] == ["VirtualService default/v7"]
    assert one.memo.computed["virtual_service_advice"] == before + 1


def test_an_adviser_that_fails_costs_nobody_anything() -> None:
    def failing(reader: Reader, ref: Any) -> Any:
        raise KeyError(ref.name)

    one = Engine({}, advisers={**ADVISERS, "DestinationRule": failing})
    one.load(Delta(upserts=(rule("b"), virtual_service(route("nobody")))))
    assert [p.code for p in one.problems()] == ["unknown-host"]


def test_a_provider_that_cannot_be_asked() -> None:
    """AZ-032."""

    def custom(provider: str) -> Object:
        spec = {"action": "CUSTOM", "provider": {"name": provider}, "rules": [{}]}
        return make("AuthorizationPolicy", "p", spec=spec)

    def providers(host: str) -> Object:
        text = f"extensionProviders: [{{name: judge, envoyExtAuthzHttp: {{service: {host}, port: 80}}}}]"
        return make("ConfigMap", "istio", "istio-system", data={"mesh": text})

    unknown = [("spec.provider.name", "unknown-provider")]
    assert advice(custom("judge")) == unknown
    assert advice(custom("other"), providers("judge.example"), entry("judge.example", 80)) == unknown
    assert advice(custom("judge"), providers("judge.example")) == unknown
    assert advice(custom("judge"), providers("judge.example"), entry("judge.example", 80)) == []
    assert advice(make("AuthorizationPolicy", "p", spec={"rules": [{}]})) == []
