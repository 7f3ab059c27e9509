from collections.abc import Mapping
from typing import Any

import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf import any_pb2

from pypilot.compile.credential_names import CredentialRef, parse_resource_name, resource_name
from pypilot.compile.secrets import compile_secrets, secret_resource
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.compile.secrets.certs import new_pair, revocation_list
from tests.golden import node
from tests.world.objects import make, service

PAIR, OTHER, CA = new_pair(), new_pair(), new_pair().certificate


def gateway(*tls: Mapping[str, Any], name: str = "g", selector: str = "gw") -> Object:
    servers = [
        {"port": {"number": 443 + i, "name": f"h{i}", "protocol": "HTTPS"}, "hosts": ["*"], "tls": settings}
        for i, settings in enumerate(tls)
    ]
    return make("Gateway", name, "elsewhere", spec={"selector": {"app": selector}, "servers": servers})


def secret(name: str, namespace: str = "infra", **values: str) -> Object:
    return make("Secret", name, namespace, stringData={k.replace("_", "."): v for k, v in values.items()})


def served(*objects: Object, kind: str = "router", **node_parts: Any) -> dict[str, secret_pb2.Secret]:
    proxy = node({"type": kind, "name": "gw", "namespace": "infra", **node_parts})
    made = compile_secrets(Reader(advance(World(), Delta(upserts=objects))), proxy)
    found = {}
    for resource in made:
        message = secret_pb2.Secret()
        any_pb2.Any.FromString(resource.any_bytes).Unpack(message)
        assert message.name == resource.name
        found[resource.name] = message
    return found


def test_a_pair_under_the_name_that_the_gateway_gave() -> None:
    found = served(
        gateway({"mode": "SIMPLE", "credentialName": "shop"}),
        secret("shop", tls_crt=PAIR.certificate, tls_key=PAIR.key),
    )
    assert list(found) == ["kubernetes://shop"]
    certificate = found["kubernetes://shop"].tls_certificate
    assert certificate.certificate_chain.inline_bytes == PAIR.certificate.encode()
    assert certificate.private_key.inline_bytes == PAIR.key.encode()
    assert not certificate.HasField("ocsp_staple")


def test_all_that_a_pair_and_a_ca_may_have() -> None:
    """SDS-007."""
    pair = {"tls.crt": PAIR.certificate, "tls.key": PAIR.key, "tls.ocsp-staple": "stapled"}
    revoked = revocation_list()
    found = served(
        gateway({"mode": "MUTUAL", "credentialName": "shop"}),
        make("Secret", "shop", "infra", stringData={**pair, "ca.crt": CA, "ca.crl": revoked}),
    )
    assert sorted(found) == ["kubernetes://shop", "kubernetes://shop-cacert"]
    certificate, context = found["kubernetes://shop"], found["kubernetes://shop-cacert"]
    assert certificate.WhichOneof("type") == "tls_certificate"
    assert certificate.tls_certificate.certificate_chain.inline_bytes == PAIR.certificate.encode()
    assert certificate.tls_certificate.private_key.inline_bytes == PAIR.key.encode()
    assert certificate.tls_certificate.ocsp_staple.inline_bytes == b"stapled"
    assert context.WhichOneof("type") == "validation_context"
    assert context.validation_context.trusted_ca.inline_bytes == CA.encode()
    assert context.validation_context.crl.inline_bytes == revoked.encode()


def test_what_the_agent_answers_is_not_served() -> None:
    """SDS-002: istiod's names are those that say `kubernetes` or `configmap`; all others are the agent's."""
    objects = [
        secret("default", "infra", cert=PAIR.certificate, key=PAIR.key, cacert=CA),
        secret("ROOTCA".lower(), "infra", cacert=CA),
        make("ConfigMap", "roots", "infra", data={"ca.crt": CA}),
    ]
    reader = Reader(advance(World(), Delta(upserts=tuple(objects))))
    for name in ("default", "ROOTCA", "file-cert:/a~/b", "file-root:/a", "rootca"):
        assert secret_resource(reader, name, "infra") is None
    for name in ("kubernetes://default", "kubernetes://default-cacert", "configmap://infra/roots-cacert"):
        made = secret_resource(reader, name, "infra")
        assert made is not None
        assert made.name == name
    tls = {"mode": "MUTUAL", "credentialName": "builtin://"}
    assert served(gateway(tls), *objects) == {}


def test_a_missing_secret_holds_back_only_its_own_server() -> None:
    """KSVC-041."""
    servers = [{"mode": "SIMPLE", "credentialName": name} for name in ("shop", "missing", "empty", "crossed")]
    found = served(
        gateway(*servers),
        secret("shop", cert=PAIR.certificate, key=PAIR.key),
        secret("empty", tls_crt="", tls_key=""),
        secret("crossed", cert=PAIR.certificate, key=OTHER.key),
    )
    assert list(found) == ["kubernetes://shop"]


def test_only_secrets_of_its_own_namespace_and_of_its_own_gateways() -> None:
    pair = {"cert": PAIR.certificate, "key": PAIR.key}
    found = served(
        gateway({"mode": "SIMPLE", "credentialName": "kubernetes://infra/own"}),
        gateway({"mode": "SIMPLE", "credentialName": "kubernetes://shop/theirs"}, name="h"),
        gateway({"mode": "SIMPLE", "credentialName": "foreign"}, name="i", selector="another"),
        secret("own", **pair),
        secret("theirs", "shop", **pair),
        secret("foreign", **pair),
        secret("unmentioned", **pair),
    )
    assert list(found) == ["kubernetes://infra/own"]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([("shop-cacert", {"cacert": CA})], CA),
        ([("shop-cacert", {"cacert": CA}), ("shop", {"ca_crt": OTHER.certificate})], CA),
        ([("shop", {"ca_crt": CA})], CA),
        ([("shop-cacert", {"password": "x"}), ("shop", {"ca_crt": CA})], None),
        ([("shop", {"ca_crt": "nonsense"})], None),
        ([("shop", {"cacert": CA, "crl": "nonsense"})], None),
        ([], None),
    ],
)
def test_where_the_ca_comes_from(objects: list[tuple[str, dict[str, str]]], expected: str | None) -> None:
    """KSVC-042: the Secret NAME-cacert decides if it is there, else NAME."""
    secrets = [secret(name, **values) for name, values in objects]
    found = served(gateway({"mode": "MUTUAL", "credentialName": "shop"}), *secrets)
    context = found.get("kubernetes://shop-cacert")
    assert (context.validation_context.trusted_ca.inline_bytes.decode() if context else None) == expected


def test_names_of_servers() -> None:
    """GW-041…043."""
    revoked = revocation_list()
    found = served(
        gateway(
            {"mode": "OPTIONAL_MUTUAL", "credentialNames": ["rsa", "ec"]},
            {"mode": "MUTUAL", "credentialName": "rsa", "caCertCredentialName": "roots-cacert"},
            {"mode": "SIMPLE", "credentialName": "builtin://"},
            {"mode": "PASSTHROUGH", "credentialName": "ignored"},
        ),
        secret("rsa", cert=PAIR.certificate, key=PAIR.key, cacert=CA, crl=revoked),
        secret("ec", tls_crt=OTHER.certificate, tls_key=OTHER.key),
        secret("roots-cacert", ca_crt=CA),
        secret("ignored", cert=PAIR.certificate, key=PAIR.key),
    )
    assert sorted(found) == [
        "kubernetes://ec",
        "kubernetes://roots-cacert",
        "kubernetes://rsa",
        "kubernetes://rsa-cacert",
    ]
    assert found["kubernetes://rsa-cacert"].validation_context.crl.inline_bytes == revoked.encode()


def rule(credential: str, mode: str = "MUTUAL", **spec: Any) -> Object:
    tls = {"mode": mode, "credentialName": credential}
    return make("DestinationRule", "r", "infra", spec={"host": "bank", "trafficPolicy": {"tls": tls}, **spec})


def test_rules_name_secrets_too() -> None:
    """DR-074: on gateways; on sidecars only with a workloadSelector, or ConfigMaps."""
    bank = service("bank", "infra")
    client = secret("client", cert=PAIR.certificate, key=PAIR.key, cacert=CA)
    roots = make("ConfigMap", "roots", "shop", data={"ca.crt": CA})
    both = ["kubernetes://client", "kubernetes://client-cacert"]
    assert sorted(served(bank, client, rule("client"))) == both
    assert sorted(served(bank, client, rule("client", "SIMPLE"))) == both[1:]
    assert sorted(served(bank, client, rule("client"), kind="sidecar")) == []
    chosen = rule("client", workloadSelector={"matchLabels": {"app": "gw"}})
    assert sorted(served(bank, client, chosen, kind="sidecar")) == both
    others = rule("client", workloadSelector={"matchLabels": {"app": "other"}})
    assert sorted(served(bank, client, others, kind="sidecar")) == []
    public = served(bank, roots, rule("configmap://shop/roots", "SIMPLE"), kind="sidecar")
    assert sorted(public) == ["configmap://shop/roots-cacert"]


def test_a_sidecar_gets_nothing_by_a_gateway() -> None:
    assert not served(
        gateway({"mode": "SIMPLE", "credentialName": "shop"}),
        secret("shop", cert=PAIR.certificate, key=PAIR.key),
        kind="sidecar",
    )


def test_only_the_secret_that_changed_is_made_anew() -> None:
    """KSVC-043."""
    names = ("a", "b", "c")
    pairs = {name: secret(name, cert=PAIR.certificate, key=PAIR.key) for name in names}
    servers = gateway(*({"mode": "SIMPLE", "credentialName": name} for name in names))
    world = advance(World(), Delta(upserts=(servers, *pairs.values())))
    memo, proxy = Memo(world), node({"type": "router", "name": "gw", "namespace": "infra"})
    before = memo.root(compile_secrets, proxy)
    memo.computed.clear()
    world = advance(world, Delta(upserts=(secret("b", cert=OTHER.certificate, key=OTHER.key),)))
    memo.advance(world, world.changed)
    after = memo.root(compile_secrets, proxy)
    assert memo.computed["secret_resource"] == 1
    assert [r.name for r in after if r != before.get(r.name)] == ["kubernetes://b"]


@pytest.mark.parametrize(
    ("credential", "name"),
    [
        ("shop", "kubernetes://shop"),
        ("kubernetes://shop", "kubernetes://shop"),
        ("kubernetes-gateway://ns/shop", "kubernetes-gateway://ns/shop"),
        ("configmap://ns/roots", "configmap://ns/roots"),
        ("builtin://", "default"),
        ("builtin://-cacert", "ROOTCA"),
        ("sds://shop", "kubernetes://shop"),
        ("invalid://whatever", "invalid://"),
    ],
)
def test_resource_names(credential: str, name: str) -> None:
    assert resource_name(credential) == name


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("kubernetes://shop", CredentialRef("Secret", "own", "shop", False)),
        ("kubernetes://shop-cacert", CredentialRef("Secret", "own", "shop-cacert", True)),
        ("kubernetes://ns/shop", CredentialRef("Secret", "ns", "shop", False)),
        ("kubernetes-gateway://ns/shop", CredentialRef("Secret", "ns", "shop", False, cross_namespace=True)),
        ("configmap://ns/roots-cacert", CredentialRef("ConfigMap", "ns", "roots-cacert", True)),
        ("configmap://roots", None),
        ("kubernetes://", None),
        ("kubernetes-gateway://ns", None),
        ("invalid://", None),
        ("default", None),
    ],
)
def test_what_resource_names_refer_to(name: str, ref: CredentialRef | None) -> None:
    assert parse_resource_name(name, "own") == ref


@pytest.mark.parametrize(("cluster", "served_there"), [("", True), ("Kubernetes", True), ("elsewhere", False)])
def test_a_proxy_of_another_cluster_gets_no_credentials(cluster: str, served_there: bool) -> None:
    """NODE-012: nor CA certificates; the namespace of that name is another there."""
    objects = [
        gateway({"mode": "MUTUAL", "credentialName": "shop"}),
        secret("shop", tls_crt=PAIR.certificate, tls_key=PAIR.key, ca_crt=CA),
    ]
    assert bool(served(*objects, metadata={"CLUSTER_ID": cluster})) is served_there
