"""Whether mutual TLS is to be used without a rule saying so (DR-056…058, MESH-009)."""

import re

from pypilot.compile.clusters.traits import Traits
from pypilot.compile.policies.selection import namespace_mode
from pypilot.world.model import MeshPort, MeshService, Resolution
from pypilot.world.reader import Reader

_SPIFFE_ID = re.compile(r"spiffe://[^/]+/ns/[^/]+/sa/[^/]+$")


def _all_speak_tls(reader: Reader, service: MeshService, port: MeshPort) -> bool:
    """An original-destination cluster has one socket for all hosts, so each of them must have a sidecar (DR-057)."""
    endpoints = [e for e in reader.endpoints(service.key) if e.port(port.name)]
    return bool(endpoints) and all(e.tls_mode not in ("", "disabled") for e in endpoints)


def infers_mutual_tls(
    reader: Reader, service: MeshService, port: MeshPort, traits: Traits, passes_through: bool
) -> bool:
    """True if calls to the service port use mutual TLS where the endpoint can. `passes_through`: so says the rule."""
    if not (traits.mesh_tls and reader.mesh().enable_auto_mtls) or service.mesh_external:
        return False
    if namespace_mode(reader, service.namespace) == "DISABLE":  # other policies count for each endpoint (PA-015)
        return False
    if passes_through or service.resolution is Resolution.PASSTHROUGH:
        return _all_speak_tls(reader, service, port)
    return True


def expected_identities(reader: Reader, service: MeshService) -> tuple[str, ...]:
    """Whom a server of the service may claim to be, under every trust domain alias (DR-063, MESH-007, SE-015)."""
    accounts = {*reader.service_accounts(service.key), *service.subject_alt_names}
    aliases = reader.mesh().trust_domain_aliases
    workloads = [account.split("/", 3)[3] for account in accounts if _SPIFFE_ID.match(account)]
    return tuple(sorted(accounts | {f"spiffe://{alias}/{path}" for alias in aliases for path in workloads}))
