"""CA-001…003: whatever a request says, the certificate says who was proved."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.security.authority import Authority, ExpiredError, RequestError, requested_key
from pypilot.security.x509 import SKEW, make_root, parse_root
from tests.security.workloads import intermediate

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
WEB = "spiffe://cluster.local/ns/shop/sa/web"
P256 = ec.generate_private_key(ec.SECP256R1())


def csr(key, *extensions, hash_=None):
    hash_ = None if isinstance(key, ed25519.Ed25519PrivateKey) else hash_ or hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hash_).public_bytes(Encoding.PEM)


def leaf_of(signed):
    return x509.load_pem_x509_certificate(signed.chain[0].encode())


KEYS = {
    "p256": P256,
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_the_key_of_the_request_gets_the_identity_of_the_caller(kind):
    root = make_root("cluster.local", NOW)
    asked = csr(
        KEYS[kind],
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cluster.local/ns/bank/sa/root")]),
        x509.BasicConstraints(ca=True, path_length=None),
    )
    signed = Authority(root).workload(requested_key(asked), WEB, NOW, DAY)
    leaf = leaf_of(signed)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [WEB]
    assert len(list(names.value)) == 1
    assert names.critical
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.public_key() == KEYS[kind].public_key()
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (NOW - SKEW, NOW + DAY)
    assert signed.not_after == NOW + DAY
    assert signed.chain[1:] == (root.bundle.decode(),)


@pytest.mark.parametrize("data", [None, intermediate("operator")])
def test_chains_lead_to_the_root(data):
    root = parse_root(data, NOW) if data else make_root("cluster.local", NOW)
    signed = Authority(root).workload(P256.public_key(), WEB, NOW, DAY)
    between = [c for text in signed.chain[1:-1] for c in x509.load_pem_x509_certificates(text.encode())]
    leaf_of(signed).verify_directly_issued_by(x509.load_pem_x509_certificate(root.certificate))
    if data is None:
        # RFC 5280 as a verifier reads it, strictly; what an operator plugged in need not be that strict
        store = Store(x509.load_pem_x509_certificates(signed.chain[-1].encode()))
        verified = PolicyBuilder().store(store).time(NOW).build_client_verifier().verify(leaf_of(signed), between)
        assert [name.value for name in verified.subjects] == [WEB]
    else:
        assert len(signed.chain) == 3


def test_each_certificate_of_the_chain_stands_for_itself():
    """And the roots together in the last place, where ztunnel looks for them (CA-001)."""
    one, two = intermediate("operator"), intermediate("another")
    root = replace(
        parse_root(one, NOW),
        chain=one["ca-cert.pem"] + two["ca-cert.pem"],
        bundle=one["root-cert.pem"] + two["root-cert.pem"],
    )
    _, *between, roots = Authority(root).workload(P256.public_key(), WEB, NOW, DAY).chain
    assert [text.encode() for text in between] == [one["ca-cert.pem"], two["ca-cert.pem"]]
    assert roots.encode() == root.bundle


def test_no_certificate_outlives_its_ca():
    root = parse_root(intermediate("operator"), NOW)  # 50 days
    leaf = leaf_of(Authority(root).workload(P256.public_key(), WEB, NOW, timedelta(days=90)))
    assert leaf.not_valid_after_utc == x509.load_pem_x509_certificate(root.certificate).not_valid_after_utc
    with pytest.raises(ExpiredError):
        Authority(root).workload(P256.public_key(), WEB, NOW + timedelta(days=51), DAY)


def _other_signature():
    """A request whose key is not its sender's."""
    good = x509.load_pem_x509_csr(csr(P256)).public_bytes(Encoding.DER)
    return _pem(good[:-4] + bytes(b ^ 1 for b in good[-4:]))


def _pem(der):
    from base64 import encodebytes

    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + encodebytes(der) + b"-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (b"", "no certificate request"),
        (b"nonsense", "no certificate request"),
        (make_root("cluster.local", NOW).certificate, "no certificate request"),
        (csr(P256) * 500, "longer"),
        (_other_signature(), "signature"),
        (csr(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "1024 bits"),
        (csr(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
        (csr(dsa.generate_private_key(2048)), "kind"),
    ],
)
def test_requests_that_are_no_good_say_why_and_quote_nothing(asked, reason):
    with pytest.raises(RequestError, match=reason) as caught:
        requested_key(asked)
    assert "BEGIN" not in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(min_value=0, max_value=1000))
def test_no_damage_to_a_request_raises_anything_else(noise, at):
    der = x509.load_pem_x509_csr(csr(P256)).public_bytes(Encoding.DER)
    at %= len(der)
    try:
        requested_key(_pem(der[:at] + noise + der[at + len(noise) :]))
    except RequestError:
        pass
