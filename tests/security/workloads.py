"""Certificates as workloads and operators have them."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from pypilot.security.x509 import Root


def pem(key, form=PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])


def sign(subject, issuer, public, signer, extensions, days=1.0) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(signer, hashes.SHA256())


def workload_certificate(root: Root, uri: str, days: float = 1.0) -> tuple[bytes, bytes]:
    """Key and certificate of a proxy."""
    ca = x509.load_pem_x509_certificate(root.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    certificate = sign(name("w"), ca.subject, key.public_key(), load_pem_private_key(root.key, None), [names], days)
    return pem(key), certificate.public_bytes(Encoding.PEM) + root.chain


def intermediate(text: str, form=PrivateFormat.TraditionalOpenSSL) -> dict[str, bytes]:
    """The data of a Secret `cacerts`, as Istio's documentation makes it: RSA, an intermediate CA under a root."""
    root_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    basic = x509.BasicConstraints(ca=True, path_length=None)
    root = sign(name(f"{text} root"), name(f"{text} root"), root_key.public_key(), root_key, [basic], 100)
    ca = sign(name(text), root.subject, key.public_key(), root_key, [basic], 50)
    one, top = ca.public_bytes(Encoding.PEM), root.public_bytes(Encoding.PEM)
    return {
        "ca-cert.pem": one,
        "ca-key.pem": pem(key, form),
        "cert-chain.pem": one + top,
        "root-cert.pem": top,
    }


def below(root: Root, text: str) -> Root:
    """An intermediate CA of a root, as an operator plugs it in."""
    key = ec.generate_private_key(ec.SECP256R1())
    top = x509.load_pem_x509_certificate(root.certificate)
    extensions = [
        x509.BasicConstraints(ca=True, path_length=0),
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
    ]
    ca = sign(name(text), top.subject, key.public_key(), load_pem_private_key(root.key, None), extensions)
    certificate = ca.public_bytes(Encoding.PEM)
    return Root(certificate, pem(key), certificate, root.bundle)
