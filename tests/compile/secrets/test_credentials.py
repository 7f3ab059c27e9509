import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypilot.compile.credentials import (
    Credential,
    Rejection,
    ca_of,
    check_ca,
    check_pair,
    check_revocations,
    half_pair,
    pair_of,
)
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.secret import Secret
from tests.compile.secrets.certs import DAY, NOON, certificate_pem, key_pem, new_key, new_pair, revocation_list
from tests.world.objects import make

PAIR = new_pair()


def secret(**values: str) -> Secret:
    made = make("Secret", "s", stringData={k.replace("_", "."): v for k, v in values.items()})
    assert isinstance(made, Secret)
    return made


@pytest.mark.parametrize("kind", ["p256", "rsa2048", "ed25519"])
def test_a_good_pair(kind: str) -> None:
    pair = new_pair(kind)
    made = check_pair(pair.certificate.encode(), pair.key.encode())
    assert made == Credential((NOON - DAY).timestamp(), (NOON + 30 * DAY).timestamp())


def test_the_first_certificate_of_a_chain_is_the_one_that_counts() -> None:
    other = new_pair(start=NOON - 3 * DAY, end=NOON - 2 * DAY)
    assert isinstance(check_pair((PAIR.certificate + other.certificate).encode(), PAIR.key.encode()), Credential)
    wrong_order = check_pair((other.certificate + PAIR.certificate).encode(), PAIR.key.encode())
    assert wrong_order == Rejection("the certificate and the private key do not match", blames_key=True)


@pytest.mark.parametrize(
    ("certificate", "key", "reason", "blames_key"),
    [
        (PAIR.certificate, new_pair().key, "do not match", True),
        ("no PEM", PAIR.key, "not a PEM certificate chain", False),
        (PAIR.certificate, "no PEM", "not a PEM private key", True),
        (PAIR.certificate, PAIR.certificate, "not a PEM private key", True),
        (PAIR.certificate, key_pem(new_key(), b"word"), "encrypted", True),
        (*new_pair("rsa1024"), "1024 bits", True),
        (*new_pair("p224"), "secp224r1", True),
    ],
)
def test_bad_pairs(certificate: str, key: str, reason: str, blames_key: bool) -> None:
    made = check_pair(certificate.encode(), key.encode())
    assert isinstance(made, Rejection)
    assert reason in made.reason
    assert made.blames_key is blames_key


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_make_it_fail(certificate: bytes, key: bytes) -> None:
    wrapped = b"-----BEGIN CERTIFICATE-----\n" + certificate + b"\n-----END CERTIFICATE-----\n"
    for chain in (certificate, wrapped, PAIR.certificate.encode()):
        assert isinstance(check_pair(chain, key), Rejection)
    assert isinstance(check_ca(wrapped), Rejection)
    assert isinstance(check_revocations(certificate), Rejection)


def test_a_ca_bundle_is_good_for_as_long_as_its_longest_certificate() -> None:
    bundle = PAIR.certificate + certificate_pem(new_key(), start=NOON - 9 * DAY, end=NOON)
    assert check_ca(bundle.encode()) == Credential((NOON - 9 * DAY).timestamp(), (NOON + 30 * DAY).timestamp())


def test_revocation_lists() -> None:
    assert check_revocations((revocation_list() + revocation_list()).encode()) is None
    assert check_revocations(PAIR.certificate.encode()) is not None


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"cert": "c", "key": "k", "tls_crt": "c2", "tls_key": "k2"}, ("cert", "key")),
        ({"cert": "c", "key": "", "tls_crt": "c2", "tls_key": "k2"}, ("tls.crt", "tls.key")),
        ({"tls_crt": "c", "tls_key": "k"}, ("tls.crt", "tls.key")),
    ],
)
def test_which_keys_hold_the_pair(values: dict[str, str], keys: tuple[str, str]) -> None:
    """KSVC-040."""
    pair = pair_of(secret(**values))
    assert pair is not None
    assert (pair.certificate_key, pair.private_key_key) == keys


def test_a_staple_comes_with_the_keys_of_its_kind_alone() -> None:
    """KSVC-040: `tls.ocsp-staple` belongs to `tls.crt`."""
    staple = {"tls.ocsp-staple": "s"}
    for names, expected in ((("tls.crt", "tls.key"), b"s"), (("cert", "key"), b"")):
        made = make("Secret", "s", stringData={**dict.fromkeys(names, "x"), **staple})
        assert isinstance(made, Secret)
        pair = pair_of(made)
        assert pair is not None
        assert pair.staple == expected


def test_a_pair_does_not_show_what_it_holds() -> None:
    assert repr(pair_of(secret(cert="PUBLIC", key="PRIVATE"))) == "KeyPair(cert, key)"


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"tls_crt": "c"}, "tls.key"),
        ({"tls_crt": "c", "tls_key": ""}, "tls.key"),
        ({"tls_key": "k"}, "tls.crt"),
        ({"cert": "", "key": "k"}, "cert"),
        ({"key": "an API key"}, None),
        ({"cert": "anything"}, None),
        ({"password": "x"}, None),
    ],
)
def test_half_pairs(values: dict[str, str], missing: str | None) -> None:
    assert pair_of(secret(**values)) is None
    assert half_pair(secret(**values)) == missing


def test_where_the_ca_is() -> None:
    """KSVC-040."""
    both = ca_of(secret(cacert="a", crl="r", ca_crt="b", ca_crl="s"))
    assert both is not None
    assert (both.certificates, both.revocations, both.certificates_key) == (b"a", b"r", "cacert")
    second = ca_of(ConfigMap(metadata=make("ConfigMap", "m").metadata, data={"ca.crt": "b"}))
    assert second is not None
    assert (second.certificates, second.revocations) == (b"b", b"")
    assert ca_of(secret(cert="a")) is None
