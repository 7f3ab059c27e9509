"""Cross-origin requests: `http[].corsPolicy` (VS-073, VS-074)."""

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from google.protobuf import wrappers_pb2

from pypilot.compile.features.percent import always, whole
from pypilot.compile.features.string_match import string_matchers
from pypilot.compile.messages import pack
from pypilot.kinds.base import StringMatch
from pypilot.kinds.virtual_service import CorsPolicy, HTTPRoute

FILTER = "envoy.filters.http.cors"


def cors_policy(cors: CorsPolicy) -> cors_pb2.CorsPolicy:
    """The per-route configuration. `allowOrigins` wins over the deprecated `allowOrigin`."""
    origins = cors.allow_origins or tuple(StringMatch(exact=origin) for origin in cors.allow_origin)
    policy = cors_pb2.CorsPolicy(
        allow_origin_string_match=string_matchers(origins),
        allow_methods=",".join(cors.allow_methods),
        allow_headers=",".join(cors.allow_headers),
        expose_headers=",".join(cors.expose_headers),
        filter_enabled=always(whole(100)),
        forward_not_matching_preflights=wrappers_pb2.BoolValue(value=cors.unmatched_preflights != "IGNORE"),
    )
    if cors.max_age is not None:
        policy.max_age = str(cors.max_age.nanos // 1_000_000_000)
    if cors.allow_credentials is not None:
        policy.allow_credentials.value = cors.allow_credentials
    return policy


def apply_cors(route: routes.Route, rule: HTTPRoute) -> None:
    """Add the rule's CORS policy to the route."""
    if rule.cors_policy is not None:
        route.typed_per_filter_config[FILTER].CopyFrom(pack(cors_policy(rule.cors_policy)))
