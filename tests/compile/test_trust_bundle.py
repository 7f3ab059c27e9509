"""Further roots and their trust domains (MESH-008)."""

import json
from typing import Any

import pytest

from pypilot.compile.generators import GENERATORS
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.wire.decode import resource_to_dict
from pypilot.wire.types import CLUSTER, LISTENER, PROXY_CONFIG
from pypilot.world.reader import Reader
from tests.compile.listeners.decoding import world_of
from tests.golden import node
from tests.xds.certificates import Authority

ROOTS = sorted(Authority(name).certificate.decode() for name in ("a", "b"))


def mesh(*certificates: dict[str, Any], **more: Any) -> str:
    return json.dumps({"trustDomain": "own.example", "caCertificates": certificates, **more})


def made(type_url: str, text: str) -> list[dict[str, Any]]:
    resources = GENERATORS[type_url](Reader(world_of(mesh=text)), node({}))
    return [resource_to_dict(resource) for resource in resources]


def prefixes(found: Any) -> set[tuple[str, ...]]:
    """The names that each TLS context accepts, where they are prefixes."""
    if isinstance(found, list):
        return set().union(*map(prefixes, found))
    if not isinstance(found, dict):
        return set()
    own = [m.get("matcher", m) for k in found if k.startswith("match_") and "subject_alt" in k for m in found[k]]
    here = tuple(m["prefix"] for m in own if "prefix" in m)
    return ({here} if here else set()).union(*map(prefixes, found.values()))


def test_agents_are_told_of_all_roots_once() -> None:
    two = mesh({"pem": ROOTS[1], "trustDomains": ["b.example"]}, {"pem": ROOTS[0]}, {"pem": ROOTS[1]})
    [found] = made(PROXY_CONFIG, two)
    assert found["ca_certificates_pem"] == ROOTS
    [nothing] = made(PROXY_CONFIG, mesh())
    assert "ca_certificates_pem" not in nothing


@pytest.mark.parametrize("type_url", [LISTENER, CLUSTER], ids=["inbound", "tunnels"])
def test_their_trust_domains_are_accepted(type_url: str) -> None:
    domains = ["b.example", "alias.example", "c.example"]
    text = mesh(
        {"pem": ROOTS[0], "trustDomains": domains},
        {"trustDomains": ["c.example"]},
        trustDomainAliases=["alias.example"],
    )
    wanted = ("own.example", "alias.example", "b.example", "c.example")
    assert prefixes(made(type_url, text)) == {tuple(f"spiffe://{domain}/" for domain in wanted)}


def test_a_root_that_is_none_is_left_out_alone() -> None:
    leaf = Authority("a").issue("spiffe://own.example/x").certificate.decode()
    text = mesh({"pem": "nothing", "trustDomains": ["b.example"]}, {"pem": ROOTS[0]}, {"pem": leaf})
    found, findings = parse_mesh_config(text)
    assert [(f.field, f.severity) for f in findings] == [(f"caCertificates[{i}].pem", "error") for i in (0, 2)]
    assert not any("nothing" in f.message for f in findings)
    assert found is not None
    assert found.trusted_domains == ("own.example", "b.example")
    assert [c.pem for c in found.ca_certificates] == ["", ROOTS[0], ""]


def test_what_is_not_used_is_told() -> None:
    _, findings = parse_mesh_config(mesh({"spiffeBundleUrl": "https://b.example", "certSigners": ["x"]}))
    assert {(f.field, f.code) for f in findings} == {
        ("caCertificates[0].spiffeBundleUrl", "unsupported-field"),
        ("caCertificates[0].certSigners", "unsupported-field"),
    }
