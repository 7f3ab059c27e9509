"""The roots that MeshConfig adds to the mesh's own, for agents that ask: all that is sent of a ProxyConfig (MESH-008).

An agent joins them to the root of its own certificate, so that is not among them.
"""

from google.protobuf import message_factory

from pypilot.wire.istio_messages import find_istio_message
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.wire.types import PROXY_CONFIG
from pypilot.world.reader import Reader


def _bundle(reader: Reader) -> ResourceSet:
    descriptor = find_istio_message("istio.mesh.v1alpha1.ProxyConfig")
    assert descriptor is not None
    roots = sorted({certificate.pem for certificate in reader.mesh().ca_certificates if certificate.pem})
    config = message_factory.GetMessageClass(descriptor)(ca_certificates_pem=roots)
    return ResourceSet((Chunk((Resource.of("", PROXY_CONFIG, config.SerializeToString(deterministic=True)),)),))


def compile_trust_bundle(reader: Reader, _: Proxy) -> ResourceSet:
    """One resource without a name, equal for all proxies."""
    return reader.call(_bundle)
