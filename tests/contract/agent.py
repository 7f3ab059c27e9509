"""What `pilot-agent` sends, message for message: a CSR for its workload, and its Envoy's requests with its own between.

A client for tests alone. It knows nothing of pypilot: only gRPC, the xDS protocol and Istio's public messages.

Source: pkg/istio-agent, pkg/bootstrap, security/pkg/nodeagent of istio/istio, and what a real agent was seen to send.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from pypilot.wire.pb.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

CREATE_CERTIFICATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SOTW = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
SERVER_NAME = "istiod.istio-system.svc"

_ENVOY = "type.googleapis.com/envoy."
CDS = _ENVOY + "config.cluster.v3.Cluster"
EDS = _ENVOY + "config.endpoint.v3.ClusterLoadAssignment"
LDS = _ENVOY + "config.listener.v3.Listener"
RDS = _ENVOY + "config.route.v3.RouteConfiguration"
SDS = _ENVOY + "extensions.transport_sockets.tls.v3.Secret"
ECDS = _ENVOY + "config.core.v3.TypedExtensionConfig"
NDS = "type.googleapis.com/istio.networking.nds.v1.NameTable"
PCDS = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig"
HEALTH = "type.googleapis.com/istio.v1.HealthInformation"

PATIENCE = 60.0
"""No test waits for a time to pass; this only keeps a broken one from hanging."""
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Credentials:
    """How it proves who it is: by a token, or by the certificate that it was provisioned with."""

    roots: bytes
    token: str = ""
    chain: bytes | None = None
    key: bytes | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Headers of every call."""
        cluster = (("clusterid", "Kubernetes"),)
        return (*cluster, ("authorization", f"Bearer {self.token}")) if self.token else cluster

    @asynccontextmanager
    async def channel(self, port: int) -> AsyncIterator[Any]:
        """A connection of its own."""
        secret = grpc.ssl_channel_credentials(self.roots, self.key, self.chain)
        options = [("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", secret, options) as opened:
            yield opened


def request_pem(key: Key, identity: str) -> str:
    """A CSR of its form: an empty organization, and the identity as the one critical name."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    empty = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "", _validate=False)
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([empty])).add_extension(names, critical=True)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def certificate(
    port: int, credentials: Credentials, csr: str, seconds: int = 86_400, signer: str = ""
) -> Sequence[str]:
    """The chain that it is given. It always names a signer, if only an empty one."""
    request = IstioCertificateRequest(csr=csr, validity_duration=seconds)
    request.metadata.update({"CertSigner": signer})
    async with credentials.channel(port) as channel:
        call = channel.unary_unary(
            CREATE_CERTIFICATE,
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        answer = await call(request, metadata=credentials.metadata, timeout=PATIENCE)
    return tuple(answer.cert_chain)


def node(name: str, address: str, role: str = "sidecar", labels: Mapping[str, str] | None = None, **more: Any) -> Node:
    """The node of its Envoy's bootstrap, in namespace `alpha`; an Envoy of Istio's build, unless `extensions` says."""
    made = Node(id=f"{role}~{address}~{name}.alpha~alpha.svc.cluster.local", cluster=f"{name}.alpha")
    made.metadata.update(
        {
            "APP_CONTAINERS": "app",
            "CLUSTER_ID": "Kubernetes",
            "DNS_CAPTURE": "true",
            "ENVOY_PROMETHEUS_PORT": 15090,
            "ENVOY_SKIP_DEPRECATED_LOGS": "true",
            "ENVOY_STATUS_PORT": 15021,
            "INSTANCE_IPS": address,
            "INTERCEPTION_MODE": "REDIRECT",
            "ISTIO_VERSION": "1.32.0",
            "LABELS": {"app": name, "security.istio.io/tlsMode": "istio", **(labels or {})},
            "MESH_ID": "cluster.local",
            "METADATA_DISCOVERY": "false",
            "NAME": name,
            "NAMESPACE": "alpha",
            "NODE_NAME": "node",
            "OWNER": f"kubernetes://apis/apps/v1/namespaces/alpha/deployments/{name}",
            "PILOT_SAN": [SERVER_NAME],
            "POD_PORTS": '[{"containerPort":8080,"protocol":"TCP"}]',
            "PROXY_CONFIG": {
                "binaryPath": "/usr/local/bin/envoy",
                "concurrency": 1,
                "configPath": "./etc/istio/proxy",
                "controlPlaneAuthPolicy": "MUTUAL_TLS",
                "discoveryAddress": "istiod.istio-system.svc:15012",
                "drainDuration": "45s",
                "proxyAdminPort": 15000,
                "serviceCluster": "istio-proxy",
                "statNameLength": 189,
                "statusPort": 15020,
                "terminationDrainDuration": "5s",
            },
            "SERVICE_ACCOUNT": name,
            "WORKLOAD_IDENTITY_SOCKET_FILE": "socket",
            "WORKLOAD_NAME": name,
            **more,
        }
    )
    made.user_agent_name = "envoy"
    made.user_agent_build_version.version.major_number = 1
    made.user_agent_build_version.version.minor_number = 40
    return made


@dataclass
class Answer:
    """A response."""

    type_url: str
    nonce: str
    resources: dict[str, Any]
    """By name: messages still packed."""
    versions: dict[str, str]
    removed: tuple[str, ...]


@dataclass
class DeltaStream:
    """The agent's stream to the control plane: its Envoy's, into which it mixes its own requests."""

    call: Any
    node: Node | None
    held: dict[str, dict[str, str]] = field(default_factory=dict)
    """Names and versions that its Envoy holds, by type: what it says on the next stream."""
    waiting: dict[str, list[Answer]] = field(default_factory=dict)

    async def send(self, type_url: str, subscribe: Sequence[str] = (), **fields: Any) -> None:
        """One request. Only the first of a stream carries the node."""
        request = DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=subscribe, **fields)
        if self.node is not None:
            request.node.CopyFrom(self.node)
            self.node = None
        await self.call.write(request)

    async def accept(self, answer: Answer) -> None:
        """ACK: type and nonce, nothing else."""
        await self.send(answer.type_url, response_nonce=answer.nonce)
        held = self.held.setdefault(answer.type_url, {})
        held.update(answer.versions)
        for name in answer.removed:
            held.pop(name, None)

    async def reject(self, answer: Answer, message: str) -> None:
        """NACK: type, nonce and why."""
        request: dict[str, Any] = {"error_detail": {"code": 13, "message": message}}
        await self.send(answer.type_url, response_nonce=answer.nonce, **request)

    async def next(self, type_url: str) -> Answer:
        """The next response of a type; others wait."""
        while not (known := self.waiting.get(type_url)):
            answer = await self._read()
            self.waiting.setdefault(answer.type_url, []).append(answer)
        return known.pop(0)

    async def get(self, type_url: str, subscribe: Sequence[str] = (), **fields: Any) -> Answer:
        """Ask and accept."""
        await self.send(type_url, subscribe, **fields)
        answer = await self.next(type_url)
        await self.accept(answer)
        return answer

    async def is_silent(self) -> bool:
        """True if nothing is on its way: a name that there is not is asked for, and its absence is the next answer."""
        await self.send(EDS, ["no-such-cluster"])
        answer = await self._read()
        assert answer.type_url == EDS, answer
        return answer.removed == ("no-such-cluster",)

    async def _read(self) -> Answer:
        raw = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert raw is not grpc.aio.EOF, await self.call.code()
        return Answer(
            raw.type_url,
            raw.nonce,
            {r.name: r.resource for r in raw.resources},
            {r.name: r.version for r in raw.resources},
            tuple(raw.removed_resources),
        )


@asynccontextmanager
async def streaming(port: int, credentials: Credentials, who: Node) -> AsyncIterator[DeltaStream]:
    """A stream; it ends with the block."""
    async with credentials.channel(port) as channel:
        call = channel.stream_stream(
            DELTA,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )
        yield DeltaStream(call(metadata=credentials.metadata), who)
