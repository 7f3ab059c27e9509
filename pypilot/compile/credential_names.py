"""Names of credentials: what a `credentialName` is called over SDS, what an SDS name refers to (SDS-001, GW-040)."""

from typing import Literal, NamedTuple

CA_SUFFIX = "-cacert"
BUILTIN = "builtin://"
INVALID = "invalid://"
EXTERNAL = "sds://"
KUBERNETES = "kubernetes://"
KUBERNETES_GATEWAY = "kubernetes-gateway://"
CONFIG_MAP = "configmap://"


class CredentialRef(NamedTuple):
    """What an SDS resource name refers to."""

    kind: Literal["Secret", "ConfigMap"]
    namespace: str
    name: str
    ca_only: bool
    """Only the CA certificate is wanted: `-cacert`, or any ConfigMap."""
    cross_namespace: bool = False
    """A `kubernetes-gateway://` name: allowed only where a ReferenceGrant was checked."""


def resource_name(credential_name: str) -> str:
    """The SDS name of a `credentialName`; a plain name is a Secret beside the proxy."""
    if credential_name.startswith(BUILTIN):
        return "ROOTCA" if credential_name.endswith(CA_SUFFIX) else "default"
    if credential_name.startswith(INVALID):
        return INVALID
    if credential_name.startswith((CONFIG_MAP, KUBERNETES, KUBERNETES_GATEWAY)):
        return credential_name
    return KUBERNETES + credential_name.removeprefix(EXTERNAL)


def is_public(name: str) -> bool:
    """True for an SDS name of CA certificates: those are no secret (SDS-005, SDS-006)."""
    return name.startswith(CONFIG_MAP) or name.endswith(CA_SUFFIX)


def parse_resource_name(name: str, proxy_namespace: str) -> CredentialRef | None:
    """What an SDS name refers to; None if no Secret or ConfigMap can be meant."""
    if name.startswith(CONFIG_MAP):
        namespace, _, rest = name.removeprefix(CONFIG_MAP).partition("/")
        return CredentialRef("ConfigMap", namespace, rest, ca_only=True) if namespace and rest else None
    if name.startswith(KUBERNETES_GATEWAY):
        namespace, _, rest = name.removeprefix(KUBERNETES_GATEWAY).partition("/")
        if not (namespace and rest):
            return None
        return CredentialRef("Secret", namespace, rest, rest.endswith(CA_SUFFIX), cross_namespace=True)
    if not name.startswith(KUBERNETES):
        return None
    body = name.removeprefix(KUBERNETES)
    namespace, slash, rest = body.partition("/")
    if not slash:
        namespace, rest = proxy_namespace, body
    return CredentialRef("Secret", namespace, rest, rest.endswith(CA_SUFFIX)) if namespace and rest else None
