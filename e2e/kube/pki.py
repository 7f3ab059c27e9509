"""Certificates and tokens of a throw-away cluster."""

import base64
import datetime
import ipaddress
import json
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://kubernetes.default.svc"


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Pki:
    """Files in a directory: `ca.crt`, NAME.crt and NAME.key, `sa.key`, `sa.pub`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pypilot-e2e")])
        self._now = datetime.datetime.now(datetime.UTC)
        ca = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self._ca = ca.sign(self._key, hashes.SHA256())
        (directory / "ca.crt").write_bytes(self._ca.public_bytes(serialization.Encoding.PEM))
        self._signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (directory / "sa.key").write_bytes(_pem(self._signer))
        public = self._signer.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        (directory / "sa.pub").write_bytes(public.public_bytes(serialization.Encoding.PEM, form))

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, seconds: float | None = None
    ) -> x509.CertificateBuilder:
        day = datetime.timedelta(days=1)
        end = self._now + day
        if seconds is not None:
            end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(self._now - day).not_valid_after(end)

    def issue(
        self, name: str, groups: Sequence[str] = (), hosts: Sequence[str] = (), seconds: float | None = None
    ) -> tuple[Path, Path]:
        """A certificate for a client (common name, organisations) or, with `hosts`, for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(subject, key, seconds).add_extension(x509.ExtendedKeyUsage([usage]), False)
        if hosts:
            names = [
                x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
                for host in hosts
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        certificate, private = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        signed = builder.sign(self._key, hashes.SHA256())
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(_pem(key))
        return certificate, private

    def token(self, namespace: str, account: str, uid: str, seconds: float) -> str:
        """A service account's token that is good for `seconds`: the API server itself makes none under ten minutes."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "iat": now,
            "nbf": now - 5,
            "exp": int(now + seconds),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": uid}},
        }
        text = f"{_b64(json.dumps({'alg': 'RS256', 'typ': 'JWT'}).encode())}.{_b64(json.dumps(claims).encode())}"
        return f"{text}.{_b64(self._signer.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"
