"""Role based access control: the HTTP filter and the network filter (envoy.config.rbac.v3)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from ipaddress import ip_address, ip_network
from typing import Any

from tests.simulate.fields import Message, UnsupportedError, at, flag, items, number, only, text, typed
from tests.simulate.local_reply import local_reply
from tests.simulate.matchers import header_matches, string_matches
from tests.simulate.model import Connection, Request
from tests.simulate.passing import Level, Passing, Result

HTTP_RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"
TCP_RBAC = "envoy.extensions.filters.network.rbac.v3.RBAC"
_TEMPLATE = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
_PERMISSIONS = (
    "and_rules", "or_rules", "any", "header", "url_path", "destination_ip", "destination_port",
    "destination_port_range", "metadata", "not_rule", "requested_server_name", "matcher", "uri_template",
    "sourced_metadata",
)  # fmt: skip
_PRINCIPALS = (
    "and_ids", "or_ids", "any", "authenticated", "source_ip", "direct_remote_ip", "remote_ip", "header", "url_path",
    "metadata", "filter_state", "not_id", "sourced_metadata", "custom",
)  # fmt: skip
_SEGMENT = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks for what."""

    connection: Connection
    remote: str
    request: Request | None = None
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a filter's rules say."""

    passes: bool
    policy: str = ""
    """The first that matches, by name; empty for none."""
    shadow: str = ""
    said: str = ""

    @property
    def details(self) -> str:
        """Response code details, or why the connection was closed."""
        return f"rbac_access_denied_matched_policy[{self.policy or 'none'}]"


# -- matchers ---------------------------------------------------------------------------------------------------------


def _in_range(cidr: Message, address: str) -> bool:
    network = ip_network(f"{text(cidr, 'address_prefix')}/{number(cidr, 'prefix_len')}", strict=False)
    found = ip_address(address)
    return found.version == network.version and found in network


def _value_matches(matcher: Message, value: Any) -> bool:
    """`ValueMatcher`; None is a value that is not there."""
    kind = only(matcher, ("null_match", "double_match", "string_match", "bool_match", "present_match", "list_match",
                          "or_match"))  # fmt: skip
    match kind:
        case "string_match":
            return isinstance(value, str) and string_matches(at(matcher, kind), value)
        case "bool_match":
            return isinstance(value, bool) and value == flag(matcher, kind)
        case "present_match":
            return value is not None and flag(matcher, kind)
        case "list_match":
            one_of = at(matcher, kind, "one_of")
            return isinstance(value, list) and any(_value_matches(one_of, item) for item in value)
        case "or_match":
            return any(_value_matches(one, value) for one in items(at(matcher, kind), "value_matchers"))
    raise UnsupportedError(f"ValueMatcher.{kind}")


def metadata_matches(matcher: Message, metadata: Mapping[str, Mapping[str, Any]]) -> bool:
    """`MetadataMatcher`."""
    value: Any = metadata.get(text(matcher, "filter"))
    for segment in items(matcher, "path"):
        value = value.get(text(segment, "key")) if isinstance(value, Mapping) else None
    return _value_matches(at(matcher, "value"), value) != flag(matcher, "invert")


def _path_matches(matcher: Message, request: Request | None) -> bool:
    return request is not None and string_matches(at(matcher, "path"), request.pure_path)


def template_matches(template: str, path: str) -> bool:
    """`UriTemplateMatchConfig`: `*` is a segment that is not empty, `**` the rest, which may be."""
    expression = re.escape(template).replace(r"\*\*", f"(?:{_SEGMENT}|/)*").replace(r"\*", f"{_SEGMENT}+")
    return re.fullmatch(expression, path) is not None


def _permitted(rule: Message, subject: Subject) -> bool:
    """`Permission`."""
    kind, request, connection = only(rule, _PERMISSIONS), subject.request, subject.connection
    match kind:
        case "and_rules":
            return all(_permitted(one, subject) for one in items(at(rule, kind), "rules"))
        case "or_rules":
            return any(_permitted(one, subject) for one in items(at(rule, kind), "rules"))
        case "not_rule":
            return not _permitted(at(rule, kind), subject)
        case "any":
            return flag(rule, kind)
        case "header":
            return request is not None and header_matches(at(rule, kind), request)
        case "url_path":
            return _path_matches(at(rule, kind), request)
        case "destination_ip":
            return _in_range(at(rule, kind), connection.destination)
        case "destination_port":
            return number(rule, kind) == connection.port
        case "metadata":
            return metadata_matches(at(rule, kind), subject.metadata)
        case "requested_server_name":
            return string_matches(at(rule, kind), connection.server_name)
        case "uri_template":
            extension, config = typed(at(rule, kind))
            if extension == _TEMPLATE:
                return request is not None and template_matches(text(config, "path_template"), request.pure_path)
    raise UnsupportedError(f"Permission.{kind}")


def _authenticated(matcher: Message, connection: Connection) -> bool:
    """Below TLS alone; a certificate without URI names, or none at all, counts as the empty name."""
    if not connection.tls:
        return False
    if "principal_name" not in matcher:
        return True
    return any(string_matches(at(matcher, "principal_name"), name) for name in connection.peer or ("",))


def _is_principal(who: Message, subject: Subject) -> bool:
    """`Principal`."""
    kind, request, connection = only(who, _PRINCIPALS), subject.request, subject.connection
    match kind:
        case "and_ids":
            return all(_is_principal(one, subject) for one in items(at(who, kind), "ids"))
        case "or_ids":
            return any(_is_principal(one, subject) for one in items(at(who, kind), "ids"))
        case "not_id":
            return not _is_principal(at(who, kind), subject)
        case "any":
            return flag(who, kind)
        case "authenticated":
            return _authenticated(at(who, kind), connection)
        case "direct_remote_ip":
            return _in_range(at(who, kind), connection.source)
        case "remote_ip":
            return _in_range(at(who, kind), subject.remote)
        case "header":
            return request is not None and header_matches(at(who, kind), request)
        case "url_path":
            return _path_matches(at(who, kind), request)
        case "metadata":
            return metadata_matches(at(who, kind), subject.metadata)
    raise UnsupportedError(f"Principal.{kind}")


# -- rules ------------------------------------------------------------------------------------------------------------


def first_match(rules: Message, subject: Subject) -> str:
    """The name of the first policy that holds, in the order of names; empty for none."""
    for name, policy in sorted(at(rules, "policies").items()):
        if "condition" in policy or "checked_condition" in policy:
            raise UnsupportedError("Policy.condition")
        permitted = any(_permitted(rule, subject) for rule in items(policy, "permissions"))
        if permitted and any(_is_principal(who, subject) for who in items(policy, "principals")):
            return str(name)
    return ""


def _passes(rules: Message, matched: str) -> bool:
    match text(rules, "action", "ALLOW"):
        case "ALLOW":
            return bool(matched)
        case "DENY":
            return not matched
    return True


def decide(config: Message, subject: Subject) -> Decision:
    """What the filter does; shadow rules only tell."""
    if "matcher" in config or "shadow_matcher" in config:
        raise UnsupportedError("RBAC.matcher")
    shadow, said = "", []
    if "shadow_rules" in config:
        shadow = first_match(at(config, "shadow_rules"), subject)
        would = "pass" if _passes(at(config, "shadow_rules"), shadow) else "deny"
        said.append(f"only seen: would {would} ({shadow or 'no policy'})")
    if "rules" not in config:
        return Decision(True, "", shadow, "; ".join(said) or "no rules")
    matched = first_match(at(config, "rules"), subject)
    passes = _passes(at(config, "rules"), matched)
    action = text(at(config, "rules"), "action", "ALLOW")
    said.append(f"{action}: {matched or 'no policy'} matches, {'goes on' if passes else 'denied'}")
    return Decision(passes, matched, shadow, "; ".join(said))


def authorize(config: Message, name: str, level: Level, passing: Passing) -> Iterator[Result]:
    """The HTTP filter."""
    if level.config(name):
        raise UnsupportedError("RBACPerRoute")
    subject = Subject(level.connection, level.remote, passing.request, passing.metadata)
    decision = decide(config, subject)
    if not decision.passes:
        body = b"RBAC: access denied"
        reply = local_reply(passing.request, 403, body, flags="", details=decision.details, edits=level.edits)
        yield Fraction(1), replace(reply, delay=passing.delay), decision.said
        return
    metadata = passing.metadata
    if "shadow_rules" in config:
        prefix = text(config, "shadow_rules_stat_prefix")
        found = {f"{prefix}shadow_effective_policy_id": decision.shadow} if decision.shadow else {}
        metadata = {**metadata, name: {**metadata.get(name, {}), **found}}
    yield Fraction(1), replace(passing, metadata=metadata), decision.said
