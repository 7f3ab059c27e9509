"""CA-003, CA-004, CA-007: how long, for whom, and what is said when not."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from structlog.testing import capture_logs

from pypilot.security.impersonation import Impersonation
from pypilot.security.issuing import CertificateIssuer, IssueError, Lifetimes
from pypilot.security.x509 import make_root
from tests.security.test_authority import P256, csr
from tests.world.objects import make

NOW = datetime.now(UTC).replace(microsecond=0)
CSR = csr(P256).decode()
HOUR = 3600


@dataclass(frozen=True)
class Who:
    namespace: str = "shop"
    service_account: str = "web"
    trust_domain: str = "cluster.local"
    pod: str = ""

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def issuer(root=None, may=lambda *_: False, **lifetimes):
    return CertificateIssuer(
        lambda: root, may, Lifetimes(**{k: timedelta(hours=v) for k, v in lifetimes.items()}), now=lambda: NOW
    )


def hours(chain):
    return (x509.load_pem_x509_certificate(chain[0].encode()).not_valid_after_utc - NOW) / timedelta(hours=1)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, 24), (-5, 24), (2 * HOUR, 2), (1000 * HOUR, 48), (2**62, 48), (1, 1 / 60)],
)
async def test_how_long_a_certificate_holds(seconds, expected):
    made = issuer(make_root("cluster.local", NOW), longest=48)
    assert hours(await made.issue(Who(), CSR, seconds, {})) == pytest.approx(expected)


async def test_what_cannot_be_granted_is_counted_and_says_why():
    made = issuer(make_root("cluster.local", NOW))
    for csr_, metadata, code in (
        ("nonsense", {}, "INVALID_ARGUMENT"),
        (CSR, {"CertSigner": "clusterissuers.example/one"}, "INVALID_ARGUMENT"),
        (CSR, {"ImpersonatedIdentity": "spiffe://cluster.local/ns/bank/sa/root"}, "PERMISSION_DENIED"),
        (CSR, {"ImpersonatedIdentity": {"a": 1}}, "PERMISSION_DENIED"),
    ):
        with pytest.raises(IssueError) as caught:
            await made.issue(Who(), csr_, 0, metadata)
        assert caught.value.code == code
    assert (made.statistics.requests, made.statistics.bad_requests, made.statistics.denied) == (4, 2, 2)
    old = CertificateIssuer(lambda: make_root("cluster.local", NOW - timedelta(days=4000)), now=lambda: NOW)
    for made, code in ((issuer(None), "UNAVAILABLE"), (old, "INTERNAL")):
        with pytest.raises(IssueError) as caught:
            await made.issue(Who(), CSR, 0, {})
        assert caught.value.code == code


async def test_a_ca_that_cannot_sign_is_said_in_the_log_only():
    root = replace(make_root("cluster.local", NOW), key=b"-----BEGIN nothing")
    made = issuer(root)
    with capture_logs() as logs, pytest.raises(IssueError) as caught:
        await made.issue(Who(), CSR, 0, {})
    assert caught.value.code == "INTERNAL"
    assert [entry["event"] for entry in logs] == ["signing failed"]
    assert "BEGIN" not in str(logs)


async def test_another_root_is_used_at_once():
    roots = [make_root("one", NOW), make_root("two", NOW)]
    made = CertificateIssuer(lambda: roots[0], now=lambda: NOW)
    before = await made.issue(Who(), CSR, 0, {})
    roots.pop(0)
    after = await made.issue(Who(), CSR, 0, {})
    assert before[-1] != after[-1] == roots[0].bundle.decode()


def pod(name, namespace, account, node, phase="Running"):
    spec = {"serviceAccountName": account, "nodeName": node}
    return (namespace, name), make("Pod", name, namespace, spec=spec, status={"phase": phase})


ZTUNNEL = Who("istio-system", "ztunnel", pod="ztunnel-a")
PODS = MappingProxyType(
    dict(
        [
            pod("ztunnel-a", "istio-system", "ztunnel", "a"),
            pod("ztunnel-b", "istio-system", "ztunnel", "b"),
            pod("web-1", "shop", "web", "a"),
            pod("db-1", "shop", "db", "b"),
            pod("job-1", "shop", "job", "a", "Succeeded"),
            pod("plain", "shop", "", "a"),
        ]
    )
)


@pytest.mark.parametrize(
    ("caller", "identity", "expected"),
    [
        (ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/web", True),
        (ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/default", True),
        (ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/db", False),  # on another node
        (ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/job", False),  # over
        (ZTUNNEL, "spiffe://other/ns/shop/sa/web", False),
        (ZTUNNEL, "web", False),
        (replace(ZTUNNEL, pod=""), "spiffe://cluster.local/ns/shop/sa/web", False),  # a certificate names no pod
        (replace(ZTUNNEL, pod="web-1", namespace="shop"), "spiffe://cluster.local/ns/shop/sa/web", False),
        (replace(ZTUNNEL, pod="gone"), "spiffe://cluster.local/ns/shop/sa/web", False),
        (Who("shop", "web", pod="web-1"), "spiffe://cluster.local/ns/shop/sa/default", False),  # not trusted
    ],
)
def test_only_the_agent_of_a_node_speaks_for_the_pods_of_that_node(caller, identity, expected):
    assert Impersonation(lambda: PODS, ("istio-system/ztunnel",)).allows(caller, identity) is expected


def test_pods_that_come_and_go_count():
    now = [dict(PODS)]
    made = Impersonation(lambda: now[0], ("istio-system/ztunnel",))
    assert made.allows(ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/web")
    now[0] = {k: v for k, v in now[0].items() if k[1] != "web-1"}
    assert not made.allows(ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/web")
    now[0] = {**now[0], **dict([pod("db-2", "shop", "db", "a")])}
    assert made.allows(ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/db")


async def test_a_key_made_here_has_the_usual_lifetime():
    made = await issuer(make_root("cluster.local", NOW), default=2).credential(Who())
    leaf = x509.load_pem_x509_certificate(made.chain[0].encode())
    assert hours(made.chain) == 2
    assert made.not_after == leaf.not_valid_after_utc
    assert load_pem_private_key(made.key, None).public_key() == leaf.public_key()
    assert "PRIVATE" not in repr(made)


@pytest.mark.parametrize("root", [None, make_root("cluster.local", NOW - timedelta(days=4000))])
async def test_no_key_without_a_ca_that_holds(root):
    made = issuer(root)
    with pytest.raises(IssueError) as caught:
        await made.credential(Who())
    assert caught.value.code == "UNAVAILABLE"
    assert made.statistics.failed == 1
