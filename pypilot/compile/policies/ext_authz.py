"""Who decides for action CUSTOM: a provider of MeshConfig, and the filter that asks it (AZ-032…039)."""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2, http_uri_pb2
from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as tcp_ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2
from envoy.type.v3 import http_status_pb2

from pypilot.compile.messages import duration, pack
from pypilot.compile.naming import outbound_cluster
from pypilot.compile.policies.matchers import metadata
from pypilot.compile.providers import provider_hostname
from pypilot.kinds.base import Duration
from pypilot.kinds.extension_provider import ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, RequestBody
from pypilot.world.reader import Reader

PREFIX = "istio-ext-authz"
HTTP_EXT_AUTHZ = "envoy.filters.http.ext_authz"
TCP_EXT_AUTHZ = "envoy.filters.network.ext_authz"
_SHADOW_RESULT = "istio_ext_authz_shadow_effective_policy_id"
_LONGEST = Duration(600_000_000_000)
"""AZ-035."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class AuthorizationProvider(NamedTuple):
    """A provider that can be asked."""

    name: str
    form: ExtAuthzHttp | ExtAuthzGrpc
    hostname: str
    cluster: str
    status: int
    """Answer while it cannot be asked; 0 for Envoy's own."""


def _status(text: str) -> int | None:
    """0 for none given, None for one that Envoy does not know."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text) if int(text) and int(text) in http_status_pb2.StatusCode.values() else None


def _is_sound(form: ExtAuthzHttp | ExtAuthzGrpc) -> bool:
    if not 0 < form.port < 65536 or _status(form.status_on_error) is None:
        return False
    if isinstance(form, ExtAuthzGrpc):
        return True
    prefix = form.path_prefix
    headers = (
        *(form.include_request_headers_in_check or form.include_headers_in_check),
        *form.headers_to_upstream_on_allow,
        *form.headers_to_downstream_on_allow,
        *form.headers_to_downstream_on_deny,
    )
    return (not prefix or (prefix.startswith("/") and not urlsplit(prefix).netloc)) and "*" not in headers


def provider_of(reader: Reader, name: str) -> AuthorizationProvider | None:
    """The provider of that name; None if it cannot be asked (AZ-032)."""
    if not _NAME.fullmatch(name):
        return None
    named: list[ExtensionProvider] = [p for p in reader.mesh().extension_providers if p.name == name]
    for provider in named[-1:]:
        form = provider.envoy_ext_authz_http or provider.envoy_ext_authz_grpc
        if form is None or not _is_sound(form):
            return None
        hostname = provider_hostname(reader, form.service)
        if not hostname:
            return None
        cluster = outbound_cluster(form.port, "", hostname)
        return AuthorizationProvider(name, form, hostname, cluster, _status(form.status_on_error) or 0)
    return None


def _is_asked(provider: AuthorizationProvider, rbac_filter: str) -> metadata_pb2.MetadataMatcher:
    """The filter before this one has found a rule of this provider's to match (AZ-029)."""
    prefix = string_pb2.StringMatcher(prefix=f"{PREFIX}-{provider.name}")
    return metadata(rbac_filter, (_SHADOW_RESULT,), value_pb2.ValueMatcher(string_match=prefix))


def _header_names(names: Iterable[str]) -> string_pb2.ListStringMatcher | None:
    """In any case, with wildcards at an end (AZ-036)."""
    patterns = []
    for name in names:
        if name.startswith("*"):
            patterns.append(string_pb2.StringMatcher(suffix=name[1:], ignore_case=True))
        elif name.endswith("*"):
            patterns.append(string_pb2.StringMatcher(prefix=name[:-1], ignore_case=True))
        else:
            patterns.append(string_pb2.StringMatcher(exact=name, ignore_case=True))
    return string_pb2.ListStringMatcher(patterns=patterns) if patterns else None


def _body(body: RequestBody | None) -> ext_authz_pb2.BufferSettings | None:
    if body is None:
        return None
    return ext_authz_pb2.BufferSettings(
        max_request_bytes=body.max_request_bytes,
        allow_partial_message=body.allow_partial_message,
        pack_as_bytes=body.pack_as_bytes,
    )


def _http_service(provider: AuthorizationProvider, form: ExtAuthzHttp) -> ext_authz_pb2.HttpService:
    service = ext_authz_pb2.HttpService(
        path_prefix=form.path_prefix,
        server_uri=http_uri_pb2.HttpUri(
            uri=f"http://{provider.hostname}", cluster=provider.cluster, timeout=duration(form.timeout or _LONGEST)
        ),
    )
    for name, value in sorted(form.include_additional_headers_in_check.items()):
        service.authorization_request.headers_to_add.append(base_pb2.HeaderValue(key=name, value=value))
    answer = ext_authz_pb2.AuthorizationResponse(
        allowed_upstream_headers=_header_names(form.headers_to_upstream_on_allow),
        allowed_client_headers=_header_names(form.headers_to_downstream_on_deny),
        allowed_client_headers_on_success=_header_names(form.headers_to_downstream_on_allow),
    )
    if answer.ByteSize():
        service.authorization_response.CopyFrom(answer)
    return service


def _grpc_service(provider: AuthorizationProvider, form: ExtAuthzGrpc) -> grpc_service_pb2.GrpcService:
    return grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=provider.cluster, authority=provider.hostname),
        timeout=duration(form.timeout or _LONGEST),
    )


def http_ext_authz(provider: AuthorizationProvider) -> hcm_pb2.HttpFilter:
    """The filter that asks about requests."""
    form = provider.form
    config = ext_authz_pb2.ExtAuthz(
        failure_mode_allow=form.fail_open,
        transport_api_version=config_source_pb2.ApiVersion.V3,
        with_request_body=_body(form.include_request_body_in_check),
        filter_enabled_metadata=_is_asked(provider, "envoy.filters.http.rbac"),
    )
    if provider.status:
        config.status_on_error.code = provider.status
    if isinstance(form, ExtAuthzHttp):
        config.http_service.CopyFrom(_http_service(provider, form))
        told = form.include_request_headers_in_check or form.include_headers_in_check
        if (names := _header_names(told)) is not None:
            config.allowed_headers.CopyFrom(names)
    else:
        config.grpc_service.CopyFrom(_grpc_service(provider, form))
    return hcm_pb2.HttpFilter(name=HTTP_EXT_AUTHZ, typed_config=pack(config))


def tcp_ext_authz(provider: AuthorizationProvider) -> components.Filter | None:
    """The filter that asks about connections; None for a provider that speaks HTTP alone."""
    if isinstance(provider.form, ExtAuthzHttp):
        return None
    config = tcp_ext_authz_pb2.ExtAuthz(
        stat_prefix="tcp.",
        failure_mode_allow=provider.form.fail_open,
        transport_api_version=config_source_pb2.ApiVersion.V3,
        grpc_service=_grpc_service(provider, provider.form),
        filter_enabled_metadata=_is_asked(provider, "envoy.filters.network.rbac"),
    )
    return components.Filter(name=TCP_EXT_AUTHZ, typed_config=pack(config))
