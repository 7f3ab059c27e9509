"""What makes an AuthorizationPolicy wrong beyond its types (VAL-007), and its registry entry."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from pypilot.kinds.authorization_policy import (
    AuthorizationPolicy,
    Condition,
    RequestOperation,
    Rule,
    Source,
    claim_path,
)
from pypilot.kinds.base import FieldPath, Finding, Held, Kind
from pypilot.kinds.peer_authentication import validate_selector
from pypilot.kinds.re2 import is_re2
from pypilot.kinds.request_authentication import validate_targets

_PLAIN_KEYS = frozenset(
    {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.serviceAccount",
        "source.principal",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    }
)
_FILTER_STATE = "experimental.envoy.filters."
_MOST_ACCOUNTS = 16
_TEMPLATE = re.compile(r"\{\*\*?\}")
_LITERAL = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;:@=]+")
"""A segment of a template that Envoy takes; others end the process of Envoy 1.40."""
_NO_HEADER_NAME = re.compile(r"[\0\r\n]")
_OF_DENIAL = ("DENY", "CUSTOM")


def is_known_key(key: str) -> bool:
    """True for a `when` key that has a meaning (AZ-020…023)."""
    if key in _PLAIN_KEYS:
        return True
    attribute, bracket, rest = key.partition("[")
    inside = bracket + rest
    if len(inside) < 3 or not inside.endswith("]"):
        return False
    if attribute.startswith(_FILTER_STATE):
        return True
    if attribute == "request.headers":
        return not _NO_HEADER_NAME.search(inside)
    return attribute == "request.auth.claims" and all(claim_path(inside))


def is_address(text: str) -> bool:
    """True for an IP address or a CIDR with its length in bits."""
    address, slash, length = text.partition("/")
    if (slash and not (length.isascii() and length.isdigit())) or "%" in address:
        return False
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_port(text: str) -> bool:
    """True for a port number, or 0."""
    return text.isascii() and text.isdigit() and int(text) < 65536


def is_template(path: str) -> bool:
    """True for a path with `{*}` or `{**}` (AZ-019)."""
    return _TEMPLATE.search(path) is not None


def is_sound_path(path: str) -> bool:
    """Templates stand for whole segments, `{**}` for the last ones; and no other wildcard beside them."""
    if not is_template(path):
        return "{" not in path and "}" not in path
    if not path.startswith("/") or "*" in _TEMPLATE.sub("", path):
        return False
    *segments, last = path.split("/")[1:]
    if last:
        segments.append(last)
    if any(s not in ("{*}", "{**}") and not _LITERAL.fullmatch(s) for s in segments):
        return False
    rest = segments[segments.index("{**}") + 1 :] if "{**}" in segments else []
    return not any(s in ("{*}", "{**}") for s in rest)


def _is_expression(value: str) -> bool:
    """True for a namespace or an account that can stand in an expression, as Istio has it (AZ-013, AZ-014)."""
    return is_re2(f".*/ns/{value.replace('*', '.*')}/.*")


def _validate_source(source: Source, path: str) -> Iterable[Finding]:
    for name in ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"):
        values: tuple[str, ...] = getattr(source, _attribute(name))
        for i, value in enumerate(values):
            if not is_address(value):
                yield Finding(f"{path}.{name}[{i}]", f"{value!r} is neither an IP address nor a CIDR (VAL-007)")
    if source.service_accounts and (source.principals or source.namespaces):
        yield Finding(f"{path}.serviceAccounts", "not together with principals or namespaces (VAL-007)")
    if source.not_service_accounts and (source.not_principals or source.not_namespaces):
        yield Finding(f"{path}.notServiceAccounts", "not together with notPrincipals or notNamespaces (VAL-007)")
    for name in ("namespaces", "notNamespaces"):
        for i, value in enumerate(getattr(source, _attribute(name))):
            if not _is_expression(value):
                yield Finding(f"{path}.{name}[{i}]", f"{value!r} is not a namespace")
    for name in ("serviceAccounts", "notServiceAccounts"):
        accounts: tuple[str, ...] = getattr(source, _attribute(name))
        if len(accounts) > _MOST_ACCOUNTS:
            yield Finding(f"{path}.{name}", f"more than {_MOST_ACCOUNTS} items (VAL-007)")
        for i, value in enumerate(accounts):
            if not value or "*" in value or value.count("/") > 1 or not _is_expression(value):
                yield Finding(f"{path}.{name}[{i}]", f"{value!r} is neither NAME nor NAMESPACE/NAME (VAL-007)")


def _validate_operation(operation: RequestOperation, path: str) -> Iterable[Finding]:
    for name in ("ports", "notPorts"):
        for i, value in enumerate(getattr(operation, _attribute(name))):
            if not is_port(value):
                yield Finding(f"{path}.{name}[{i}]", f"{value!r} is not a port number (VAL-007)")
    for name in ("paths", "notPaths"):
        for i, value in enumerate(getattr(operation, _attribute(name))):
            if not is_sound_path(value):
                yield Finding(f"{path}.{name}[{i}]", f"{value!r} is not a sound path template (VAL-007)")


def _attribute(name: str) -> str:
    return re.sub("([A-Z])", lambda m: "_" + m[1].lower(), name)


def _values(item: Source | RequestOperation) -> Iterable[tuple[str, tuple[str, ...]]]:
    for name in item.__struct_fields__:
        yield name, getattr(item, name)


def _validate_lists(item: Source | RequestOperation, path: str) -> Iterable[Finding]:
    """Something is said, and no value is empty."""
    names = dict(zip(item.__struct_fields__, item.__struct_encode_fields__, strict=True))
    if not any(values for _, values in _values(item)):
        yield Finding(path, "says nothing; leave it out to mean any (VAL-007)")
    for name, values in _values(item):
        for i, value in enumerate(values):
            if not value:
                yield Finding(f"{path}.{names[name]}[{i}]", "a value must not be empty (VAL-007)")


def _validate_condition(condition: Condition, path: str) -> Iterable[Finding]:
    if not is_known_key(condition.key):
        yield Finding(f"{path}.key", f"{condition.key!r} is no known attribute (AZ-023)")
        return
    if not condition.values and not condition.not_values:
        yield Finding(path, "values or notValues are needed (VAL-007)")
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        for i, value in enumerate(values):
            at = f"{path}.{name}[{i}]"
            if not value:
                yield Finding(at, "a value must not be empty (VAL-007)")
            elif condition.key in ("source.ip", "remote.ip", "destination.ip") and not is_address(value):
                yield Finding(at, f"{value!r} is neither an IP address nor a CIDR (VAL-007)")
            elif condition.key == "destination.port" and not is_port(value):
                yield Finding(at, f"{value!r} is not a port number (VAL-007)")
            elif condition.key in ("source.namespace", "source.serviceAccount") and not _is_expression(value):
                yield Finding(at, f"{value!r} is not a name")


def _validate_rule(rule: Rule, path: str) -> Iterable[Finding]:
    for i, from_ in enumerate(rule.from_):
        if from_.source is None:
            yield Finding(f"{path}.from[{i}].source", "is needed (VAL-007)")
            continue
        yield from _validate_lists(from_.source, f"{path}.from[{i}].source")
        yield from _validate_source(from_.source, f"{path}.from[{i}].source")
    for i, to in enumerate(rule.to):
        if to.operation is None:
            yield Finding(f"{path}.to[{i}].operation", "is needed (VAL-007)")
            continue
        yield from _validate_lists(to.operation, f"{path}.to[{i}].operation")
        yield from _validate_operation(to.operation, f"{path}.to[{i}].operation")
    for i, condition in enumerate(rule.when):
        yield from _validate_condition(condition, f"{path}.when[{i}]")


def validate(policy: AuthorizationPolicy) -> Iterable[Finding]:
    """Each rule alone; then whom it is for, and who decides."""
    spec = policy.spec
    yield from validate_selector(spec.selector, "spec.selector")
    yield from validate_targets(spec.selector, spec.target_ref, spec.target_refs)
    if spec.action == "CUSTOM":
        if spec.provider is None or not spec.provider.name:
            yield Finding("spec.provider.name", "action CUSTOM needs a provider (VAL-007)")
        if not spec.rules:
            yield Finding("spec.rules", "action CUSTOM needs rules (VAL-007)")
    elif spec.provider is not None:
        yield Finding("spec.provider", f"action {spec.action} takes no provider (VAL-007)")
    if spec.action == "DENY" and not spec.rules:
        yield Finding("spec.rules", "action DENY without rules has no effect (VAL-007)", "warning", "no-effect")
    for i, rule in enumerate(spec.rules):
        yield from _validate_rule(rule, f"spec.rules[{i}]")


def _with_spec(policy: Mapping[str, Any], spec: Mapping[str, Any], meaning: str) -> Held:
    return Held({**policy, "spec": spec}, meaning)


def _denying(policy: Mapping[str, Any], spec: Mapping[str, Any]) -> Held:
    whom = {name: spec[name] for name in ("selector", "targetRef", "targetRefs") if name in spec}
    return _with_spec(
        policy, {**whom, "action": "DENY", "rules": [{}]}, "until it is corrected all requests are denied"
    )


def _wider(policy: Mapping[str, Any], spec: Mapping[str, Any], path: FieldPath) -> Held | None:
    """Without what cannot be told of a selector: more workloads. Permissions must not become theirs."""
    if spec.get("action") == "AUDIT":
        return None
    selector = spec["selector"]
    labels = selector.get("matchLabels") if isinstance(selector, Mapping) else None
    wrong = ".".join(map(str, path[3:]))
    fewer = {**spec}
    if isinstance(labels, Mapping) and wrong in labels:
        fewer["selector"] = {**selector, "matchLabels": {k: v for k, v in labels.items() if k != wrong}}
    else:
        del fewer["selector"]
    if spec.get("action") in _OF_DENIAL:
        return _with_spec(policy, fewer, "until it is corrected the policy holds for all workloads that it may mean")
    fewer["rules"] = []
    return _with_spec(policy, fewer, "until it is corrected it allows nothing at all workloads that it may mean")


def _hold(policy: Mapping[str, Any], path: FieldPath) -> Held | None:
    """What cannot be told must not open anything: without the policy requests would pass that it is there to stop.

    Istio leaves that to the API server, which takes no such object; a file is not looked at by anybody before us.
    """
    if path[:1] != ("spec",):
        return None
    spec = policy.get("spec")
    if not isinstance(spec, Mapping):
        return _denying(policy, {})
    action, field = spec.get("action", "ALLOW"), path[1] if len(path) > 1 else ""
    if field == "action":
        return _denying(policy, spec)
    if field == "selector" and field in spec:
        return _wider(policy, spec, path)
    if field == "provider" and field in spec and not _is_provider(spec[field]):
        rest = {name: value for name, value in spec.items() if name != field}
        return _with_spec(policy, rest, "nobody is asked")
    rules = spec.get("rules")
    if field != "rules" or rules is None or action == "AUDIT":
        return None
    if not isinstance(rules, list):
        if action == "ALLOW":
            return _with_spec(policy, {**spec, "rules": []}, "until it is corrected it allows nothing")
        return _denying(policy, spec)
    if action in _OF_DENIAL and len(path) == 3 and isinstance(path[2], int):
        whole = [{} if i == path[2] else rule for i, rule in enumerate(rules)]
        return _with_spec(policy, {**spec, "rules": whole}, "until it is corrected the rule means every request")
    return None


def _is_provider(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("name", ""), str)


def _without(policy: Mapping[str, Any], path: FieldPath) -> FieldPath | None:
    """Of a rule that denies, or for which somebody is asked, only the wrong field: without the rule all would pass.

    The rule then means more than was written, as it does where a field cannot be told (AZ-026, AZ-027).
    """
    if path[:2] == ("spec", "provider") or path == ("spec", "rules"):
        return ()  # one that nobody decides denies (AZ-032), and others do not ask
    if policy["spec"].get("action") not in _OF_DENIAL or len(path) < 4:
        return None
    rule, (part, *below) = path[:3], path[3:]
    if part == "when" and below:
        return (*rule, part, below[0])
    if part in ("from", "to"):
        return path[:7] if len(below) > 2 else (*rule, part)
    return None


KIND = Kind(
    AuthorizationPolicy,
    "security.istio.io",
    ("v1", "v1beta1"),
    "authorizationpolicies",
    units=("spec.rules[]",),
    without=_without,
    hold=_hold,
    validate=validate,
    short_names=("ap",),
    columns=("spec.action",),
)
