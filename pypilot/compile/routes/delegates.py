"""How a root VirtualService's rule and the rules of its delegate become one (VS-013…016). A pure merge.

The delegate's word counts where both speak; a delegate's rule whose match cannot be reached through the root's is
left out. Must not look anything up.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from pypilot.kinds.base import StringMatch
from pypilot.kinds.virtual_service import HTTPMatchRequest, HTTPRoute


def _strings_conflict(root: StringMatch | None, own: StringMatch | None) -> bool:
    """True unless every text that `own` matches is one that `root` matches, as far as can be told (VS-014)."""
    if root is None or own is None:
        return False
    if root.regex or own.regex:
        return True
    if root.exact:
        return bool(own.prefix) or own.exact != root.exact
    if root.prefix and (text := own.prefix or own.exact):
        return not text.startswith(root.prefix)
    return True


def _maps_conflict(root: Mapping[str, StringMatch], own: Mapping[str, StringMatch]) -> bool:
    return any(_strings_conflict(root.get(key), match) for key, match in own.items())


def _conflict(root: HTTPMatchRequest, own: HTTPMatchRequest) -> bool:
    return (
        _strings_conflict(root.uri, own.uri)
        or _strings_conflict(root.scheme, own.scheme)
        or _strings_conflict(root.method, own.method)
        or _strings_conflict(root.authority, own.authority)
        or _maps_conflict(root.headers, own.headers)
        or _maps_conflict(root.without_headers, own.without_headers)
        or _maps_conflict(root.query_params, own.query_params)
        or root.ignore_uri_case != own.ignore_uri_case
        or bool(root.port and own.port and root.port != own.port)
        or bool(root.source_namespace and root.source_namespace != own.source_namespace)
        or any(root.source_labels.get(k, v) != v for k, v in own.source_labels.items())
        or bool(root.gateways and own.gateways and not set(own.gateways) <= set(root.gateways))
    )


def _joined(root: str, own: str) -> str:
    return f"{root}-{own}" if root and own else own or root


def _merge_match(root: HTTPMatchRequest, own: HTTPMatchRequest) -> HTTPMatchRequest:
    return HTTPMatchRequest(
        name=_joined(root.name, own.name),
        uri=own.uri or root.uri,
        scheme=own.scheme or root.scheme,
        method=own.method or root.method,
        authority=own.authority or root.authority,
        headers={**root.headers, **own.headers},
        without_headers={**root.without_headers, **own.without_headers},
        query_params={**root.query_params, **own.query_params},
        ignore_uri_case=own.ignore_uri_case,
        port=own.port or root.port,
        source_labels={**root.source_labels, **own.source_labels},
        source_namespace=own.source_namespace or root.source_namespace,
        gateways=own.gateways or root.gateways,
        stat_prefix=own.stat_prefix or root.stat_prefix,
    )


def _merge_matches(
    root: tuple[HTTPMatchRequest, ...], own: tuple[HTTPMatchRequest, ...]
) -> tuple[HTTPMatchRequest, ...] | None:
    """Every pair that can hold together; None if one of the delegate's matches has no partner (VS-013)."""
    if not root or not own:
        return own or root
    merged: list[HTTPMatchRequest] = []
    for match in own:
        partners = [candidate for candidate in root if not _conflict(candidate, match)]
        if not partners:
            return None
        merged.extend(_merge_match(partner, match) for partner in partners)
    return tuple(merged)


def merge_delegate(root: HTTPRoute, rules: tuple[HTTPRoute, ...]) -> tuple[HTTPRoute, ...]:
    """The delegate's rules as they hold below `root`. A delegate's own `delegate` is not followed (VS-016)."""
    merged: list[HTTPRoute] = []
    for own in rules:
        match = _merge_matches(root.match, own.match)
        if match is None:
            continue
        merged.append(
            replace(
                own,
                match=match,
                name=_joined(root.name, own.name),
                rewrite=own.rewrite or root.rewrite,
                direct_response=own.direct_response or root.direct_response,
                timeout=own.timeout if own.timeout is not None else root.timeout,
                retries=own.retries or root.retries,
                fault=own.fault or root.fault,
                mirror=own.mirror or root.mirror,
                mirrors=own.mirrors or root.mirrors,
                mirror_percent=own.mirror_percent if own.mirror_percent is not None else root.mirror_percent,
                mirror_percentage=own.mirror_percentage or root.mirror_percentage,
                cors_policy=own.cors_policy or root.cors_policy,
                headers=own.headers or root.headers,
            )
        )
    return tuple(merged)
