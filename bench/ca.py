"""How many workload certificates one core signs in a second: request parsed and checked, certificate made."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pypilot.security.authority import Authority, requested_key
from pypilot.security.x509 import make_root

_COUNT = 500
_WEB = "spiffe://cluster.local/ns/shop/sa/web"
_KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA 2048": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


def ca_rows() -> Iterator[tuple[str, str]]:
    """Signatures a second of CPU time, by kind of the workload's key."""
    now = datetime.now(UTC)
    authority = Authority(make_root("cluster.local", now))
    for name, make in _KEYS.items():
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(make(), hashes.SHA256())
        csr = request.public_bytes(Encoding.PEM)
        begun = time.process_time()
        for _ in range(_COUNT):
            authority.workload(requested_key(csr), _WEB, now, timedelta(days=1))
        rate = _COUNT / (time.process_time() - begun)
        yield f"certificates signed on one core, workload key {name}", f"{rate:.0f}/s"
