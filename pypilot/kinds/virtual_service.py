"""Istio VirtualService (networking.istio.io): the messages, field by field."""

from typing import ClassVar, Literal

from pypilot.kinds.base import Duration, Object, Percent, Spec, StringMatch, UInt32

Weight = UInt32
MESH = "mesh"
"""The name under which a VirtualService is bound to all sidecars (VS-002)."""


class PortSelector(Spec, frozen=True):
    """`destination.port`."""

    number: UInt32 = 0


class Destination(Spec, frozen=True):
    """`destination`."""

    host: str
    subset: str = ""
    port: PortSelector = PortSelector()


class HeaderOperations(Spec, frozen=True):
    """`headers.request`, `headers.response`."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Spec, frozen=True):
    """`headers`."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HTTPRouteDestination(Spec, frozen=True):
    """`http[].route[]`."""

    destination: Destination
    weight: Weight = 0
    headers: Headers | None = None


class RouteDestination(Spec, frozen=True):
    """`tcp[].route[]`, `tls[].route[]`."""

    destination: Destination
    weight: Weight = 0


class HTTPMatchRequest(Spec, frozen=True):
    """`http[].match[]`."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    without_headers: dict[str, StringMatch] = {}
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    stat_prefix: str = ""


class HTTPRedirect(Spec, frozen=True):
    """`http[].redirect`."""

    uri: str = ""
    prefix_rewrite: str | None = None
    """Set by Gateway API translation; not part of the VirtualService API."""
    authority: str = ""
    port: UInt32 = 0
    derive_port: Literal["", "FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] = ""
    scheme: str = ""
    redirect_code: UInt32 = 0


class HTTPBody(Spec, frozen=True):
    """`http[].directResponse.body`."""

    string: str | None = None
    bytes: str | None = None
    """Base64."""


class HTTPDirectResponse(Spec, frozen=True):
    """`http[].directResponse`."""

    status: UInt32
    body: HTTPBody | None = None


class Delegate(Spec, frozen=True):
    """`http[].delegate`."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Spec, frozen=True):
    """`http[].rewrite.uriRegexRewrite`."""

    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Spec, frozen=True):
    """`http[].rewrite`."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Spec, frozen=True):
    """`http[].retries`."""

    attempts: int = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class PercentValue(Spec, frozen=True):
    """Istio `Percent`."""

    value: Percent = 0.0


class FaultDelay(Spec, frozen=True):
    """`http[].fault.delay`."""

    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: PercentValue | None = None
    percent: int = 0


class FaultAbort(Spec, frozen=True):
    """`http[].fault.abort`."""

    http_status: int | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: PercentValue | None = None


class HTTPFaultInjection(Spec, frozen=True):
    """`http[].fault`."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HTTPMirrorPolicy(Spec, frozen=True):
    """`http[].mirrors[]`."""

    destination: Destination
    percentage: PercentValue | None = None


class CorsPolicy(Spec, frozen=True):
    """`http[].corsPolicy`."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HTTPRoute(Spec, frozen=True):
    """`http[]`."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: int | None = None
    mirror_percentage: PercentValue | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class TLSMatchAttributes(Spec, frozen=True):
    """`tls[].match[]`."""

    sni_hosts: tuple[str, ...] = ()
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TLSRoute(Spec, frozen=True):
    """`tls[]`."""

    match: tuple[TLSMatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class L4MatchAttributes(Spec, frozen=True):
    """`tcp[].match[]`."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TCPRoute(Spec, frozen=True):
    """`tcp[]`."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Spec, frozen=True):
    """`spec`."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(Object, frozen=True, kw_only=True):
    """A VirtualService."""

    KIND: ClassVar[str] = "VirtualService"

    spec: VirtualServiceSpec = VirtualServiceSpec()


def gateway_name(name: str, namespace: str) -> str:
    """`mesh`, or `NAMESPACE/NAME`: a short name and `./NAME` are in the given namespace (VS-002).

    The old form `NAME.NAMESPACE[.svc.DOMAIN]` is understood, too.
    """
    if name == MESH:
        return name
    owner, slash, rest = name.partition("/")
    if slash:
        return f"{namespace}/{rest}" if owner == "." else name
    short, dot, rest = name.partition(".")
    return f"{rest.partition('.')[0]}/{short}" if dot else f"{namespace}/{name}"
