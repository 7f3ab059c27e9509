"""One rule of an AuthorizationPolicy as an RBAC policy (AZ-009…028). Pure.

A connection of bytes has no request. There a rule that allows goes if it speaks of one, and one that denies or records
loses the field that does: both err towards refusing (AZ-026, AZ-027).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from envoy.config.rbac.v3 import rbac_pb2
from envoy.type.matcher.v3 import filter_state_pb2, string_pb2

from pypilot.compile.policies import matchers
from pypilot.compile.policies.trust_domains import expanded, with_aliases
from pypilot.kinds.authorization_policy import Condition, RequestOperation, Rule, Source, claim_path
from pypilot.kinds.authorization_policy_validation import is_template

Permission: TypeAlias = rbac_pb2.Permission
Principal: TypeAlias = rbac_pb2.Principal
_BuildPrincipal: TypeAlias = Callable[[str], rbac_pb2.Principal]
_BuildPrincipals: TypeAlias = Callable[[Sequence[str]], rbac_pb2.Principal]

_HEADERS = "request.headers"
_CLAIMS = "request.auth.claims"
_FILTERS = "experimental."
_PEER_STATE = "io.istio.peer_principal"


class RuleSettings(NamedTuple):
    """What a rule depends on beside itself."""

    namespace: str
    """The policy's."""
    domains: tuple[str, ...]
    """The mesh's trust domain and its aliases."""
    tcp: bool
    """For a connection of bytes."""
    allows: bool
    """The action is ALLOW."""
    tunnelled: bool = False
    """The peer is whom the HBONE tunnel around the connection says."""


class HttpOnlyError(Exception):
    """A rule that allows speaks of requests, and there are none."""


class _Field(NamedTuple):
    """Values of which one must match, and values of which none may."""

    values: tuple[str, ...]
    not_values: tuple[str, ...]
    http: bool = False


def _wanted(field: _Field, settings: RuleSettings) -> bool:
    """False for a field to be left out.

    Raises:
        HttpOnlyError: without it the rule would allow too much.
    """
    is_said = bool(field.values or field.not_values)
    if is_said and field.http and settings.tcp:
        if settings.allows:
            raise HttpOnlyError
        return False
    return is_said


# -- permissions ------------------------------------------------------------------------------------------------------


def _permissions(field: _Field, build: Callable[[str], Permission], settings: RuleSettings) -> Iterator[Permission]:
    if not _wanted(field, settings):
        return
    if field.values:
        yield Permission(or_rules=Permission.Set(rules=[build(value) for value in field.values]))
    if field.not_values:
        either = Permission(or_rules=Permission.Set(rules=[build(value) for value in field.not_values]))
        yield Permission(not_rule=either)


def _host(value: str) -> Permission:
    return Permission(header=matchers.header(":authority", value, ignore_case=True))


def _method(value: str) -> Permission:
    return Permission(header=matchers.header(":method", value))


def _path(value: str) -> Permission:
    if is_template(value):
        return Permission(uri_template=matchers.path_template(value))
    return Permission(url_path=matchers.path(value))


def _port(value: str) -> Permission:
    return Permission(destination_port=int(value))


def _destination(value: str) -> Permission:
    return Permission(destination_ip=matchers.cidr(value))


def _server_name(value: str) -> Permission:
    return Permission(requested_server_name=matchers.text(value))


def _of_operation(operation: RequestOperation, settings: RuleSettings) -> Iterator[Permission]:
    yield from _permissions(_Field(operation.hosts, operation.not_hosts, http=True), _host, settings)
    yield from _permissions(_Field(operation.methods, operation.not_methods, http=True), _method, settings)
    yield from _permissions(_Field(operation.paths, operation.not_paths, http=True), _path, settings)
    yield from _permissions(_Field(operation.ports, operation.not_ports), _port, settings)


def _filter_metadata(condition: Condition) -> Iterator[Permission]:
    """All values in one matcher (AZ-022)."""
    name, _, key = condition.key.removeprefix(_FILTERS).removesuffix("]").partition("[")
    if condition.values:
        yield Permission(metadata=matchers.filter_values(name, key, condition.values))
    if condition.not_values:
        yield Permission(not_rule=Permission(metadata=matchers.filter_values(name, key, condition.not_values)))


def _permission_conditions(rule: Rule, settings: RuleSettings) -> Iterator[Permission]:
    builders = {"destination.ip": _destination, "destination.port": _port, "connection.sni": _server_name}
    for condition in rule.when:
        if condition.key in builders:
            field = _Field(condition.values, condition.not_values)
            yield from _permissions(field, builders[condition.key], settings)
        elif condition.key.startswith(_FILTERS):
            yield from _filter_metadata(condition)


def _permission(operation: RequestOperation | None, rule: Rule, settings: RuleSettings) -> Permission:
    found = [*(_of_operation(operation, settings) if operation is not None else ())]
    found += _permission_conditions(rule, settings)
    return Permission(and_rules=Permission.Set(rules=found or [Permission(any=True)]))


# -- principals -------------------------------------------------------------------------------------------------------


def _principals(field: _Field, build: Callable[[str], Principal], settings: RuleSettings) -> Iterator[Principal]:
    if not _wanted(field, settings):
        return
    if field.values:
        yield Principal(or_ids=Principal.Set(ids=[build(value) for value in field.values]))
    if field.not_values:
        either = Principal(or_ids=Principal.Set(ids=[build(value) for value in field.not_values]))
        yield Principal(not_id=either)


def _together(
    field: _Field, build: Callable[[Sequence[str]], Principal], settings: RuleSettings
) -> Iterator[Principal]:
    """One matcher for all values."""
    if not _wanted(field, settings):
        return
    if field.values:
        yield build(field.values)
    if field.not_values:
        yield Principal(not_id=build(field.not_values))


def _authenticated(settings: RuleSettings, name: Callable[[str], string_pb2.StringMatcher]) -> _BuildPrincipal:
    """The peer's identity: of its certificate, or as the tunnel has it (AZ-024)."""
    if settings.tunnelled:
        return lambda value: Principal(
            filter_state=filter_state_pb2.FilterStateMatcher(key=_PEER_STATE, string_match=name(value))
        )
    return lambda value: Principal(authenticated=Principal.Authenticated(principal_name=name(value)))


def _direct_address(value: str) -> Principal:
    return Principal(direct_remote_ip=matchers.cidr(value))


def _remote_address(value: str) -> Principal:
    return Principal(remote_ip=matchers.cidr(value))


def _request_principals(values: Sequence[str]) -> Principal:
    found = [matchers.request_principal(value) for value in values]
    return found[0] if len(found) == 1 else Principal(or_ids=Principal.Set(ids=found))


def _claims(*keys: str) -> _BuildPrincipals:
    return lambda values: Principal(metadata=matchers.claim(keys, values))


def _header(name: str) -> _BuildPrincipal:
    return lambda value: Principal(header=matchers.header(name, value))


def _account(settings: RuleSettings) -> _BuildPrincipal:
    return _authenticated(settings, lambda value: matchers.account_name(value, settings.namespace))


def _names(values: tuple[str, ...], not_values: tuple[str, ...], settings: RuleSettings, times: int = 1) -> _Field:
    for _ in range(times):
        values, not_values = with_aliases(values, settings.domains), with_aliases(not_values, settings.domains)
    return _Field(values, not_values)


def _domains(values: tuple[str, ...], not_values: tuple[str, ...], settings: RuleSettings) -> _Field:
    return _Field(expanded(values, settings.domains), expanded(not_values, settings.domains))


def _of_source(source: Source, settings: RuleSettings) -> Iterator[Principal]:
    peer = _authenticated(settings, matchers.principal_name)
    yield from _principals(_names(source.principals, source.not_principals, settings), peer, settings)
    requesters = _Field(source.request_principals, source.not_request_principals, http=True)
    yield from _together(requesters, _request_principals, settings)
    accounts = _Field(source.service_accounts, source.not_service_accounts)
    yield from _principals(accounts, _account(settings), settings)
    domains = _domains(source.trust_domains, source.not_trust_domains, settings)
    yield from _principals(domains, _authenticated(settings, matchers.trust_domain_name), settings)
    namespace = _authenticated(settings, matchers.namespace_name)
    yield from _principals(_Field(source.namespaces, source.not_namespaces), namespace, settings)
    remote = _Field(source.remote_ip_blocks, source.not_remote_ip_blocks)
    yield from _principals(remote, _remote_address, settings)
    yield from _principals(_Field(source.ip_blocks, source.not_ip_blocks), _direct_address, settings)


def _principal_conditions(rule: Rule, settings: RuleSettings) -> Iterator[Principal]:
    # As in Istio, conditions are shared by all sources, and each source has the aliases put in once more.
    times = max(len(rule.from_), 1)
    for condition in rule.when:
        yield from _principal_condition(condition, settings, times)


def _principal_condition(condition: Condition, settings: RuleSettings, times: int) -> Iterator[Principal]:
    values, not_values = condition.values, condition.not_values
    field, of_request = _Field(values, not_values), _Field(values, not_values, http=True)
    match condition.key:
        case "source.ip":
            yield from _principals(field, _direct_address, settings)
        case "remote.ip":
            yield from _principals(field, _remote_address, settings)
        case "source.namespace":
            yield from _principals(field, _authenticated(settings, matchers.namespace_name), settings)
        case "source.serviceAccount":
            yield from _principals(field, _account(settings), settings)
        case "source.trustDomain":
            domain = _authenticated(settings, matchers.trust_domain_name)
            yield from _principals(_domains(values, not_values, settings), domain, settings)
        case "source.principal":
            peer = _authenticated(settings, matchers.principal_name)
            yield from _principals(_names(values, not_values, settings, times), peer, settings)
        case "request.auth.principal":
            yield from _together(of_request, _request_principals, settings)
        case "request.auth.audiences":
            yield from _together(of_request, _claims("aud"), settings)
        case "request.auth.presenter":
            yield from _together(of_request, _claims("azp"), settings)
        case key if key.startswith(_HEADERS):
            yield from _principals(of_request, _header(key[len(_HEADERS) + 1 : -1]), settings)
        case key if key.startswith(_CLAIMS):
            yield from _together(of_request, _claims(*claim_path(key.removeprefix(_CLAIMS))), settings)


def _principal(source: Source | None, rule: Rule, settings: RuleSettings) -> Principal:
    found = [*(_of_source(source, settings) if source is not None else ())]
    found += _principal_conditions(rule, settings)
    return Principal(and_ids=Principal.Set(ids=found or [Principal(any=True)]))


# -- both -------------------------------------------------------------------------------------------------------------


def rbac_policy(rule: Rule, settings: RuleSettings) -> rbac_pb2.Policy | None:
    """The policy; None for a rule that cannot hold for a connection of bytes."""
    try:
        operations = [to.operation for to in rule.to] or [None]
        sources = [from_.source for from_ in rule.from_] or [None]
        return rbac_pb2.Policy(
            permissions=[_permission(operation, rule, settings) for operation in operations],
            principals=[_principal(source, rule, settings) for source in sources],
        )
    except HttpOnlyError:
        return None


def never() -> rbac_pb2.Policy:
    """For a policy without rules (AZ-003)."""
    return rbac_pb2.Policy(
        permissions=[Permission(not_rule=Permission(any=True))], principals=[Principal(not_id=Principal(any=True))]
    )
