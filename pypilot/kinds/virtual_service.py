"""Istio VirtualService (networking.istio.io): the messages, field by field."""

from typing import Annotated, ClassVar, Literal

import msgspec

from pypilot.kinds.base import Duration, Object, Percent, Spec, StringMatch, UInt32, deprecated, unsupported

Weight = UInt32
MESH = "mesh"
"""The name under which a VirtualService is bound to all sidecars (VS-002)."""


class PortSelector(Spec, frozen=True):
    """`destination.port`."""

    number: UInt32 = 0
    """Port of the destination's Service."""


class Destination(Spec, frozen=True):
    """`destination`."""

    host: str
    """Service to send to: a DNS name, or a short name in the rule's own namespace."""
    subset: str = ""
    """Name of a subset that a DestinationRule of the host defines."""
    port: PortSelector = PortSelector()
    """Which port of the service; needed where it has more than one."""


class HeaderOperations(Spec, frozen=True):
    """`headers.request`, `headers.response`."""

    set: dict[str, str] = {}
    """Headers to overwrite with a value."""
    add: dict[str, str] = {}
    """Headers to append a value to."""
    remove: tuple[str, ...] = ()
    """Headers to take away."""


class Headers(Spec, frozen=True):
    """`headers`."""

    request: HeaderOperations | None = None
    """Applied before a request goes to its destination."""
    response: HeaderOperations | None = None
    """Applied before a response goes back."""


class HTTPRouteDestination(Spec, frozen=True):
    """`http[].route[]`."""

    destination: Destination
    """Where matching requests go."""
    weight: Weight = 0
    """Share of the requests, relative to the sum of all weights of the route."""
    headers: Headers | None = None
    """Headers changed for this destination only."""


class RouteDestination(Spec, frozen=True):
    """`tcp[].route[]`, `tls[].route[]`."""

    destination: Destination
    """Where matching connections go."""
    weight: Weight = 0
    """Share of the connections, relative to the sum of all weights of the route."""


class HTTPMatchRequest(Spec, frozen=True):
    """`http[].match[]`."""

    name: str = ""
    """Names the match in statistics."""
    uri: StringMatch | None = None
    """Path and query of the request."""
    scheme: StringMatch | None = None
    """Scheme of the request."""
    method: StringMatch | None = None
    """Method of the request."""
    authority: StringMatch | None = None
    """Host header of the request."""
    headers: dict[str, StringMatch] = {}
    """Headers by lower-case name; an empty match asks only for presence."""
    without_headers: dict[str, StringMatch] = {}
    """Headers that must not match."""
    query_params: dict[str, StringMatch] = {}
    """Query parameters by name; exact, prefix or regex."""
    ignore_uri_case: bool = False
    """Compare `uri` without regard to case; not for regex."""
    port: UInt32 = 0
    """Port that the client called."""
    source_labels: dict[str, str] = {}
    """Labels that a calling workload must have; not at gateways."""
    source_namespace: str = ""
    """Namespace that a calling workload must be in."""
    gateways: tuple[str, ...] = ()
    """Gateways to which this match is restricted, instead of the rule's own list."""
    stat_prefix: str = ""
    """Prefix of extra statistics for this route."""


class HTTPRedirect(Spec, frozen=True):
    """`http[].redirect`."""

    uri: str = ""
    """New path."""
    prefix_rewrite: str | None = None
    """What replaces the prefix that matched; not together with `uri`."""
    authority: str = ""
    """New host."""
    port: UInt32 = 0
    """New port."""
    derive_port: Literal["", "FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] = ""
    """How to choose the port if none is given."""
    scheme: str = ""
    """New scheme."""
    redirect_code: UInt32 = 0
    """Status of the answer: 301, 302, 303, 307 or 308; 301 if absent."""


class HTTPBody(Spec, frozen=True):
    """`http[].directResponse.body`."""

    string: str | None = None
    """The body as text."""
    bytes: str | None = None
    """Base64."""


class HTTPDirectResponse(Spec, frozen=True):
    """`http[].directResponse`."""

    status: UInt32
    """HTTP status of the answer."""
    body: HTTPBody | None = None
    """Body of the answer; empty if absent."""


class Delegate(Spec, frozen=True):
    """`http[].delegate`."""

    name: str = ""
    """Name of the VirtualService that holds the routes."""
    namespace: str = ""
    """Its namespace; this rule's own if absent."""


class RegexRewrite(Spec, frozen=True):
    """`http[].rewrite.uriRegexRewrite`."""

    match: str = ""
    """RE2 expression that finds parts of the path."""
    rewrite: str = ""
    r"""What replaces them; \1 to \9 stand for captured groups."""


class HTTPRewrite(Spec, frozen=True):
    """`http[].rewrite`."""

    uri: str = ""
    """New path; with a prefix match it replaces just the prefix."""
    authority: str = ""
    """New Host header."""
    uri_regex_rewrite: RegexRewrite | None = None
    """Rewrites the path by a regular expression."""


class HTTPRetry(Spec, frozen=True):
    """`http[].retries`."""

    attempts: int = 0
    """How often to try again; 0 is never."""
    per_try_timeout: Duration | None = None
    """Time for each try, the first included; the route's timeout if absent."""
    retry_on: str = ""
    """Conditions, separated by commas, as Envoy names them; also HTTP status codes."""
    retry_remote_localities: bool | None = None
    """Whether a retry may go to another locality."""
    retry_ignore_previous_hosts: bool | None = None
    """Whether a retry avoids the hosts that were tried before; true if absent."""
    backoff: Duration | None = None
    """Least time between tries; 25ms if absent."""


class PercentValue(Spec, frozen=True):
    """Istio `Percent`."""

    value: Percent = 0.0
    """Percentage, 0 to 100, in steps of 0.0001."""


class FaultDelay(Spec, frozen=True):
    """`http[].fault.delay`."""

    fixed_delay: Duration | None = None
    """How long to hold up a request."""
    exponential_delay: Annotated[Duration | None, unsupported("Istio has never implemented it")] = None
    """Not implemented."""
    percentage: PercentValue | None = None
    """Share of the requests; all if absent."""
    percent: Annotated[int, deprecated("percentage")] = 0
    """Deprecated whole-number form of `percentage`."""


class FaultAbort(Spec, frozen=True):
    """`http[].fault.abort`."""

    http_status: int | None = None
    """HTTP status to answer with."""
    grpc_status: str | None = None
    """gRPC status to answer with, by name or number."""
    http2_error: Annotated[str | None, unsupported("Istio has never implemented it")] = None
    """Not implemented."""
    percentage: PercentValue | None = None
    """Share of the requests; all if absent."""


class HTTPFaultInjection(Spec, frozen=True):
    """`http[].fault`."""

    delay: FaultDelay | None = None
    """Hold requests up."""
    abort: FaultAbort | None = None
    """Answer requests with an error."""


class HTTPMirrorPolicy(Spec, frozen=True):
    """`http[].mirrors[]`."""

    destination: Destination
    """Where the copies go; their answers are dropped."""
    percentage: PercentValue | None = None
    """Share of the requests that are copied; all if absent."""


class CorsPolicy(Spec, frozen=True):
    """`http[].corsPolicy`."""

    allow_origin: Annotated[tuple[str, ...], deprecated("allowOrigins")] = ()
    """Deprecated form of `allowOrigins`: exact origins."""
    allow_origins: tuple[StringMatch, ...] = ()
    """Origins that may call."""
    allow_methods: tuple[str, ...] = ()
    """Value of Access-Control-Allow-Methods."""
    allow_headers: tuple[str, ...] = ()
    """Value of Access-Control-Allow-Headers."""
    expose_headers: tuple[str, ...] = ()
    """Value of Access-Control-Expose-Headers."""
    max_age: Duration | None = None
    """How long a preflight answer may be cached."""
    allow_credentials: bool | None = None
    """Whether credentials may be sent."""
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"
    """What happens to preflight requests of other origins."""


class HTTPRoute(Spec, frozen=True):
    """`http[]`."""

    name: str = ""
    """Shown in access logs and in the name of Envoy's route."""
    match: tuple[HTTPMatchRequest, ...] = ()
    """Conditions, any of which is enough; none: every request."""
    route: tuple[HTTPRouteDestination, ...] = ()
    """Destinations and their weights."""
    redirect: HTTPRedirect | None = None
    """Answer with a redirect."""
    direct_response: HTTPDirectResponse | None = None
    """Answer at once with a fixed response."""
    delegate: Delegate | None = None
    """Take the routes from another VirtualService."""
    rewrite: HTTPRewrite | None = None
    """Change path or host before forwarding."""
    timeout: Duration | None = None
    """Time for the whole request, retries included; none if absent."""
    retries: HTTPRetry | None = None
    """When and how often to try again."""
    fault: HTTPFaultInjection | None = None
    """Errors and delays to inject."""
    mirror: Destination | None = None
    """Also send a copy of each request here; its answer is dropped."""
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    """Several destinations of copies."""
    mirror_percent: Annotated[int | None, deprecated("mirrorPercentage")] = None
    """Deprecated whole-number form of `mirrorPercentage`."""
    mirror_percent_former: Annotated[int | None, unsupported("write mirrorPercentage")] = msgspec.field(
        name="mirror_percent", default=None
    )
    """Former spelling of `mirrorPercent`."""
    mirror_percentage: PercentValue | None = None
    """Share of the requests that `mirror` copies; all if absent."""
    cors_policy: CorsPolicy | None = None
    """Cross-origin requests."""
    headers: Headers | None = None
    """Headers changed for all destinations."""


class TLSMatchAttributes(Spec, frozen=True):
    """`tls[].match[]`."""

    sni_hosts: tuple[str, ...] = ()
    """Server names (SNI); *.example.com matches by suffix."""
    destination_subnets: tuple[str, ...] = ()
    """Addresses or CIDRs that the client called."""
    port: UInt32 = 0
    """Port that the client called."""
    source_labels: dict[str, str] = {}
    """Labels that a calling workload must have; not at gateways."""
    gateways: tuple[str, ...] = ()
    """Gateways to which this match is restricted, instead of the rule's own list."""
    source_namespace: str = ""
    """Namespace that a calling workload must be in."""


class TLSRoute(Spec, frozen=True):
    """`tls[]`."""

    match: tuple[TLSMatchAttributes, ...] = ()
    """Conditions, any of which is enough."""
    route: tuple[RouteDestination, ...] = ()
    """Destinations and their weights."""


class L4MatchAttributes(Spec, frozen=True):
    """`tcp[].match[]`."""

    destination_subnets: tuple[str, ...] = ()
    """Addresses or CIDRs that the client called."""
    port: UInt32 = 0
    """Port that the client called."""
    source_subnet: Annotated[str, unsupported("Istio has never implemented it")] = ""
    """Not implemented."""
    source_labels: dict[str, str] = {}
    """Labels that a calling workload must have; not at gateways."""
    gateways: tuple[str, ...] = ()
    """Gateways to which this match is restricted, instead of the rule's own list."""
    source_namespace: str = ""
    """Namespace that a calling workload must be in."""


class TCPRoute(Spec, frozen=True):
    """`tcp[]`."""

    match: tuple[L4MatchAttributes, ...] = ()
    """Conditions, any of which is enough; none: every connection."""
    route: tuple[RouteDestination, ...] = ()
    """Destinations and their weights."""


class VirtualServiceSpec(Spec, frozen=True):
    """`spec`."""

    hosts: tuple[str, ...] = ()
    """Hosts that clients call: DNS names, *.suffix, or short names of services; none for a delegate."""
    gateways: tuple[str, ...] = ()
    """Gateways (NAMESPACE/NAME) that apply these routes; `mesh`, the default, is every sidecar."""
    http: tuple[HTTPRoute, ...] = ()
    """Routes of HTTP traffic; the first that matches is used."""
    tls: tuple[TLSRoute, ...] = ()
    """Routes of TLS that is not terminated, chosen by server name."""
    tcp: tuple[TCPRoute, ...] = ()
    """Routes of any other TCP."""
    export_to: tuple[str, ...] = ()
    """Namespaces that see the rule: `*` (the default), `.` for its own, or names."""


class VirtualService(Object, frozen=True, kw_only=True):
    """A VirtualService."""

    KIND: ClassVar[str] = "VirtualService"

    spec: VirtualServiceSpec = VirtualServiceSpec()
    """How requests to some hosts are routed."""


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
