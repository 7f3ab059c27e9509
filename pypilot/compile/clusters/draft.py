"""A cluster while it is built: the message and its HTTP options, which are packed last. Lives for one compile call."""

from dataclasses import dataclass
from typing import TypeAlias

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from pypilot.compile.messages import pack
from pypilot.wire.resource import Resource
from pypilot.wire.types import CLUSTER

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HttpProtocolOptions: TypeAlias = http_protocol_options_pb2.HttpProtocolOptions


@dataclass(slots=True)
class ClusterDraft:
    """The parts of a cluster; every feature adds its own."""

    cluster: cluster_pb2.Cluster
    http: HttpProtocolOptions | None = None
    """Set by the features that need HTTP options (`http_options`)."""
    dynamic_dns: bool = False
    """A dynamic forward proxy: SNI and SAN follow the request (SE-019)."""

    def http_options(self) -> HttpProtocolOptions:
        """The HTTP options, made on first use."""
        if self.http is None:
            self.http = HttpProtocolOptions()
        return self.http

    @property
    def is_http2(self) -> bool:
        """True if the upstream protocol is fixed to HTTP/2."""
        return self.http is not None and bool(self.http.explicit_http_config.HasField("http2_protocol_options"))

    @property
    def is_original_dst(self) -> bool:
        return bool(self.cluster.type == cluster_pb2.Cluster.ORIGINAL_DST)

    def resource(self) -> Resource:
        """Pack the HTTP options and serialise. Options without a protocol mean HTTP/1.1, which Envoy wants said."""
        if self.http is not None:
            if self.http.WhichOneof("upstream_protocol_options") is None:
                self.http.explicit_http_config.http_protocol_options.SetInParent()
            self.cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(self.http))
        return Resource.of(self.cluster.name, CLUSTER, self.cluster.SerializeToString(deterministic=True))
