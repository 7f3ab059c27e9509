"""MeshConfig `extensionProviders[]`, as far as authorization asks them (AZ-034…039)."""

from typing import Annotated, Any, TypeAlias

from pypilot.kinds.base import Duration, Spec, UInt32, unsupported

Telemetry: TypeAlias = Annotated[Any, unsupported("the Telemetry API is not implemented")]
RouteCache: TypeAlias = Annotated[bool, unsupported("Istio ignores it, too")]


class RequestBody(Spec, frozen=True):
    """`includeRequestBodyInCheck` (AZ-038)."""

    max_request_bytes: UInt32 = 0
    """So much of the body is sent."""
    allow_partial_message: bool = False
    """A longer body is cut rather than refused."""
    pack_as_bytes: bool = False
    """The body is sent as bytes rather than as text."""


class ExtAuthzHttp(Spec, frozen=True):
    """`envoyExtAuthzHttp`."""

    service: str = ""
    """HOST or NAMESPACE/HOST of the service that decides."""
    port: int = 0
    """Port of that service."""
    timeout: Duration | None = None
    """How long it may take; ten minutes if absent."""
    path_prefix: str = ""
    """What is put before the request's path."""
    fail_open: bool = False
    """Requests pass while it cannot be asked."""
    clear_route_cache: RouteCache = False
    """Not used."""
    status_on_error: str = ""
    """Status of the answer while it cannot be asked; 403 if absent."""
    include_headers_in_check: tuple[str, ...] = ()
    """Former name of includeRequestHeadersInCheck."""
    include_request_headers_in_check: tuple[str, ...] = ()
    """Headers of the request that it is told."""
    include_additional_headers_in_check: dict[str, str] = {}
    """Headers that it is told beside those."""
    include_request_body_in_check: RequestBody | None = None
    """Whether it is told the body."""
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    """Headers of its answer that the workload gets."""
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    """Headers of its answer that a refused caller gets."""
    headers_to_downstream_on_allow: tuple[str, ...] = ()
    """Headers of its answer that an admitted caller gets."""


class ExtAuthzGrpc(Spec, frozen=True):
    """`envoyExtAuthzGrpc`."""

    service: str = ""
    """HOST or NAMESPACE/HOST of the service that decides."""
    port: int = 0
    """Port of that service."""
    timeout: Duration | None = None
    """How long it may take; ten minutes if absent."""
    fail_open: bool = False
    """Requests pass while it cannot be asked."""
    clear_route_cache: RouteCache = False
    """Not used."""
    status_on_error: str = ""
    """Status of the answer while it cannot be asked; 403 if absent."""
    include_request_body_in_check: RequestBody | None = None
    """Whether it is told the body."""


class SdsProvider(Spec, frozen=True):
    """`extensionProviders[].sds`: serves the credentials of gateways whose names begin with `sds://` (SDS-011)."""

    name: Annotated[str, unsupported("the provider is told apart by nothing: the first one is asked")] = ""
    """Istio does not use it either."""
    service: str = ""
    """Host of the service, or namespace/host."""
    port: int = 0
    """Its port."""


class ExtensionProvider(Spec, frozen=True):
    """`extensionProviders[]`: a name and one of the forms."""

    name: str = ""
    """By which policies mean it."""
    envoy_ext_authz_http: ExtAuthzHttp | None = None
    """Decides over HTTP."""
    envoy_ext_authz_grpc: ExtAuthzGrpc | None = None
    """Decides over gRPC."""
    prometheus: Telemetry = None
    stackdriver: Telemetry = None
    zipkin: Telemetry = None
    lightstep: Telemetry = None
    datadog: Telemetry = None
    opencensus: Telemetry = None
    skywalking: Telemetry = None
    opentelemetry: Telemetry = None
    envoy_file_access_log: Telemetry = None
    envoy_http_als: Telemetry = None
    envoy_tcp_als: Telemetry = None
    envoy_otel_als: Telemetry = None
    sds: SdsProvider | None = None
    """Serves credentials."""
