"""What a compliance policy leaves of TLS settings (DR-079): of every context that proxies get, and after all else.

The policy is the operator's (`--compliance-policy`; istiod's COMPLIANCE_POLICY), and overrides what users say.
"""

from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from pypilot.settings import CompliancePolicy

FIPS_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
_POST_QUANTUM_CURVE = "X25519MLKEM768"


def comply(common: tls_pb2.CommonTlsContext, policy: CompliancePolicy) -> None:
    """Narrow a context. Where nothing is said, an Envoy built for FIPS has the right ciphers and curves by itself."""
    params = common.tls_params
    if policy == "fips-140-2":
        allowed = [cipher for cipher in params.cipher_suites if cipher in FIPS_CIPHERS]
        params.tls_minimum_protocol_version = params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_2
        del params.cipher_suites[:]
        params.cipher_suites.extend(allowed)
        del params.ecdh_curves[:]
    elif policy == "fips-140-3":
        del params.compliance_policies[:]
        params.compliance_policies.append(common_pb2.TlsParameters.FIPS_202205)
    elif policy == "pqc":
        params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_3
        del params.cipher_suites[:]
        params.cipher_suites.extend(FIPS_CIPHERS)
        del params.ecdh_curves[:]
        params.ecdh_curves.append(_POST_QUANTUM_CURVE)
