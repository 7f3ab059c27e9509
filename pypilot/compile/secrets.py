"""Secrets over SDS: the credentials that a proxy's Gateways and DestinationRules name (GW-040…044, SDS-001…009).

A proxy gets only what its own configuration refers to, and Secrets only of its own namespace. What is missing or cannot
be served is left out: that holds back the server or cluster that names it, and nothing else. A proxy that says it is in
another cluster than the one whose Secrets are read gets none: namespaces there are others (NODE-012).
"""

from collections.abc import Iterable
from typing import NamedTuple

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from pypilot.compile.credential_names import CA_SUFFIX, CONFIG_MAP, parse_resource_name, resource_name
from pypilot.compile.credentials import Rejection, ca_of, check_ca, check_pair, check_revocations, pair_of
from pypilot.compile.destination_rules import Selection, effective_policy, subsets_of
from pypilot.compile.discovery import cluster_ports
from pypilot.compile.gateways.selection import gateways_for
from pypilot.compile.parts import view_selections
from pypilot.compile.view import ProxyView, view_of
from pypilot.kinds.base import Ref
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.gateway import ServerTLSSettings
from pypilot.kinds.secret import Secret
from pypilot.wire.node import Proxy
from pypilot.wire.resource import EMPTY, Chunk, Resource, ResourceSet
from pypilot.wire.types import SECRET
from pypilot.world.model import ServiceKey
from pypilot.world.reader import Reader

_AGENT_NAMES = frozenset({"default", "ROOTCA"})


class _Wanted(NamedTuple):
    """An SDS name that a rule mentions, and whether a sidecar may ask for it."""

    name: str
    for_sidecars: bool


# -- which names ------------------------------------------------------------------------------------------------------


def server_credentials(tls: ServerTLSSettings) -> tuple[str, ...]:
    """The SDS names of one server's tls settings, the CA last (GW-040…043)."""
    if tls.mode not in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"):
        return ()
    named = tls.credential_names or ((tls.credential_name,) if tls.credential_name else ())
    names = [resource_name(name) for name in named]
    if tls.mode != "SIMPLE":
        if tls.ca_cert_credential_name:
            names.append(resource_name(tls.ca_cert_credential_name))
        elif named:
            names.append(resource_name(named[0] + CA_SUFFIX))
    return tuple(names)


def _gateway_names(reader: Reader, gateways: tuple[Ref, ...]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for ref in gateways:
        gateway = reader.gateway(ref)
        for server in gateway.spec.servers if gateway is not None else ():
            if server.tls is not None:
                names.update(dict.fromkeys(server_credentials(server.tls)))
    return tuple(names)


def _rule_names(reader: Reader, key: ServiceKey, selection: Selection) -> tuple[_Wanted, ...]:
    """What the clusters of one service ask for (DR-074)."""
    service = reader.service(key)
    wanted: dict[_Wanted, None] = {}
    for subset in ("", *(s.name for s in subsets_of(reader, selection))):
        for port in cluster_ports(service) if service is not None else ():
            policy = effective_policy(reader, selection, port.number, subset)
            tls = policy.tls
            if tls is None or not tls.credential_name or tls.mode not in ("SIMPLE", "MUTUAL"):
                continue
            for_sidecars = policy.has_selector or tls.credential_name.startswith(CONFIG_MAP)
            if tls.mode == "MUTUAL":
                wanted[_Wanted(resource_name(tls.credential_name), for_sidecars)] = None
            if not tls.insecure_skip_verify:
                wanted[_Wanted(resource_name(tls.credential_name + CA_SUFFIX), for_sidecars)] = None
    return tuple(wanted)


def _outbound_names(reader: Reader, view: ProxyView) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for key, selection in view_selections(reader, view):
        for wanted in reader.call(_rule_names, key, selection) if selection else ():
            if view.is_router or wanted.for_sidecars:
                names[wanted.name] = None
    return tuple(names)


# -- what they hold ---------------------------------------------------------------------------------------------------


def _find_ca(reader: Reader, namespace: str, name: str) -> Secret | None:
    """KSVC-042: the Secret of that very name, else the one without the suffix."""
    return reader.secret(namespace, name) or reader.secret(namespace, name.removesuffix(CA_SUFFIX))


def _ca_resource(name: str, holder: Secret | ConfigMap | None) -> Resource | None:
    ca = ca_of(holder) if holder is not None else None
    if ca is None or isinstance(check_ca(ca.certificates), Rejection):
        return None
    secret = secret_pb2.Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = ca.certificates
    if ca.revocations:
        if check_revocations(ca.revocations) is not None:
            return None
        secret.validation_context.crl.inline_bytes = ca.revocations
    return Resource.of(name, SECRET, secret.SerializeToString(deterministic=True))


def _pair_resource(name: str, holder: Secret | None) -> Resource | None:
    pair = pair_of(holder) if holder is not None else None
    if pair is None or isinstance(check_pair(pair.certificate, pair.private_key), Rejection):
        return None
    secret = secret_pb2.Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_bytes = pair.certificate
    secret.tls_certificate.private_key.inline_bytes = pair.private_key
    if pair.staple:
        secret.tls_certificate.ocsp_staple.inline_bytes = pair.staple
    return Resource.of(name, SECRET, secret.SerializeToString(deterministic=True))


def secret_resource(reader: Reader, name: str, proxy_namespace: str) -> Resource | None:
    """What an SDS name means to proxies of a namespace; None if it is not for them, absent, or cannot be served."""
    ref = parse_resource_name(name, proxy_namespace)
    if ref is None:
        return None
    if ref.kind == "ConfigMap":
        # CA certificates are public: any namespace's ConfigMap may hold them (SDS-006).
        return _ca_resource(name, reader.config_map(ref.namespace, ref.name.removesuffix(CA_SUFFIX)))
    if ref.namespace != proxy_namespace:
        return None
    if ref.ca_only:
        return _ca_resource(name, _find_ca(reader, ref.namespace, ref.name))
    return _pair_resource(name, reader.secret(ref.namespace, ref.name))


def _secrets(reader: Reader, names: tuple[str, ...], proxy_namespace: str) -> ResourceSet:
    made = (reader.call(secret_resource, name, proxy_namespace) for name in names)
    return ResourceSet((Chunk(resource for resource in made if resource is not None),))


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names) - _AGENT_NAMES))


def compile_secrets(reader: Reader, proxy: Proxy) -> ResourceSet:
    """The credentials that the proxy's own configuration refers to."""
    view = reader.call(view_of, proxy)
    if view.cluster_id != reader.constants.cluster_id:
        return EMPTY
    served = reader.call(_gateway_names, gateways_for(reader, proxy)) if view.is_router else ()
    names = _unique((*served, *reader.call(_outbound_names, view)))
    return reader.call(_secrets, names, proxy.namespace)
