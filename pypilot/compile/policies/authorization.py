"""Compile: the RBAC filters of a set of policies, for requests and for bytes (AZ-002…008, AZ-029…033, AZ-040)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac_pb2

from pypilot.compile.messages import pack
from pypilot.compile.policies.ext_authz import PREFIX, http_ext_authz, provider_of, tcp_ext_authz
from pypilot.compile.policies.rules import RuleSettings, never, rbac_policy
from pypilot.compile.policies.selection import PolicySet
from pypilot.kinds.authorization_policy import AuthorizationPolicy
from pypilot.kinds.base import Ref
from pypilot.world.reader import Reader

HTTP_RBAC = "envoy.filters.http.rbac"
TCP_RBAC = "envoy.filters.network.rbac"
_TCP_STATS = "tcp."
_DRY_RUN = {"ALLOW": "istio_dry_run_allow_", "DENY": "istio_dry_run_deny_"}
_EXT_AUTHZ_STATS = "istio_ext_authz_"
_FAILED = "-deny-due-to-bad-CUSTOM-action"
_ACTIONS = {"ALLOW": rbac_pb2.RBAC.ALLOW, "DENY": rbac_pb2.RBAC.DENY, "AUDIT": rbac_pb2.RBAC.LOG}


class _Rules(NamedTuple):
    """The rules of one action; None where there is no policy."""

    enforced: rbac_pb2.RBAC | None
    shadow: rbac_pb2.RBAC | None


def _policies(reader: Reader, refs: Iterable[Ref]) -> list[AuthorizationPolicy]:
    return [found for ref in refs if (found := reader.policy(AuthorizationPolicy, ref)) is not None]


class _Form(NamedTuple):
    """Of which kind the filters are."""

    tcp: bool
    tunnelled: bool = False


def _settings(reader: Reader, namespace: str, form: _Form, allows: bool) -> RuleSettings:
    mesh = reader.mesh()
    return RuleSettings(namespace, (mesh.trust_domain, *mesh.trust_domain_aliases), form.tcp, allows, form.tunnelled)


def _add(reader: Reader, rbac: rbac_pb2.RBAC, policy: AuthorizationPolicy, form: _Form, prefix: str = "") -> None:
    """The rules of a policy under their names (AZ-006)."""
    name = f"{prefix}ns[{policy.namespace}]-policy[{policy.name}]-rule"
    if not policy.spec.rules:
        rbac.policies[f"{name}[0]"].CopyFrom(never())
    settings = _settings(reader, policy.namespace, form, policy.spec.action == "ALLOW")
    for i, rule in enumerate(policy.spec.rules):
        made = rbac_policy(rule, settings)
        if made is not None:
            rbac.policies[f"{name}[{i}]"].CopyFrom(made)


def _rules(reader: Reader, policies: list[AuthorizationPolicy], form: _Form) -> _Rules:
    made: dict[bool, rbac_pb2.RBAC] = {}
    for policy in policies:
        rbac = made.setdefault(policy.is_dry_run, rbac_pb2.RBAC(action=_ACTIONS[policy.spec.action]))
        _add(reader, rbac, policy, form)
    return _Rules(made.get(False), made.get(True))


def _shadow_prefix(rules: _Rules) -> str:
    """Istio names it after the shadow rules' action, and that is ALLOW where there are none."""
    if rules.shadow is None or rules.shadow.action == rbac_pb2.RBAC.ALLOW:
        return _DRY_RUN["ALLOW"]
    return _DRY_RUN["DENY"] if rules.shadow.action == rbac_pb2.RBAC.DENY else ""


def _by_action(reader: Reader, policies: PolicySet, tcp: bool) -> Iterator[_Rules]:
    """One filter an action, in order of evaluation (AZ-002, AZ-007)."""
    for refs in (policies.audit, policies.deny, policies.allow):
        if found := _policies(reader, refs):
            yield _rules(reader, found, _Form(tcp, policies.tunnelled))


def _http_filter(rules: _Rules, prefix: str) -> hcm_pb2.HttpFilter:
    config = http_rbac_pb2.RBAC(rules=rules.enforced, shadow_rules=rules.shadow, shadow_rules_stat_prefix=prefix)
    return hcm_pb2.HttpFilter(name=HTTP_RBAC, typed_config=pack(config))


def _tcp_filter(rules: _Rules, prefix: str) -> components.Filter:
    config = tcp_rbac_pb2.RBAC(
        rules=rules.enforced, shadow_rules=rules.shadow, shadow_rules_stat_prefix=prefix, stat_prefix=_TCP_STATS
    )
    return components.Filter(name=TCP_RBAC, typed_config=pack(config))


def http_authorization(reader: Reader, policies: PolicySet) -> tuple[hcm_pb2.HttpFilter, ...]:
    """AUDIT, DENY and ALLOW of requests."""
    return tuple(_http_filter(rules, _shadow_prefix(rules)) for rules in _by_action(reader, policies, tcp=False))


def tcp_authorization(reader: Reader, policies: PolicySet) -> tuple[components.Filter, ...]:
    """AUDIT, DENY and ALLOW of connections."""
    return tuple(_tcp_filter(rules, _shadow_prefix(rules)) for rules in _by_action(reader, policies, tcp=True))


# -- CUSTOM -----------------------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """What one provider is asked about."""

    provider: str
    rules: _Rules
    """`enforced`: those of policies in force; `shadow`: of those that are only seen."""


def _custom_rules(reader: Reader, policies: PolicySet, tcp: bool) -> list[_Asked]:
    by_provider: dict[str, dict[bool, rbac_pb2.RBAC]] = {}
    for policy in _policies(reader, policies.custom):
        provider = policy.spec.provider.name if policy.spec.provider is not None else ""
        kinds = by_provider.setdefault(provider, {False: rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY)})
        rbac = kinds.setdefault(policy.is_dry_run, rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY))
        _add(reader, rbac, policy, _Form(tcp), f"{PREFIX}-{provider}-" if provider else f"{PREFIX}-")
    return [_Asked(name, _Rules(kinds[False], kinds.get(True))) for name, kinds in sorted(by_provider.items())]


def _may_ask(reader: Reader, asked: list[_Asked]) -> bool:
    """Istio asks one provider about a workload, unless told otherwise (AZ-031)."""
    return len(asked) == 1 or reader.constants.several_authorizers


def _refused(rules: _Rules) -> _Rules:
    """Nobody can decide, so whatever the policies mean is denied (AZ-031, AZ-032)."""
    rbac = rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY)
    for name, policy in rules.enforced.policies.items() if rules.enforced is not None else ():
        rbac.policies[f"{name}{_FAILED}"].CopyFrom(policy)
    return _Rules(rbac, None)


def http_custom(reader: Reader, policies: PolicySet) -> tuple[hcm_pb2.HttpFilter, ...]:
    """RBAC that finds out whether the provider is to be asked, and the filter that asks it."""
    made: list[hcm_pb2.HttpFilter] = []
    asked = _custom_rules(reader, policies, tcp=False)
    may_ask = _may_ask(reader, asked)
    for one in asked:
        provider = provider_of(reader, one.provider) if may_ask else None
        if provider is None:
            made.append(_http_filter(_refused(one.rules), ""))
            continue
        made.append(_http_filter(_Rules(one.rules.shadow, one.rules.enforced), _EXT_AUTHZ_STATS))
        made.append(http_ext_authz(provider))
    return tuple(made)


def tcp_custom(reader: Reader, policies: PolicySet) -> tuple[components.Filter, ...]:
    """As for requests; a provider that speaks HTTP is not asked about bytes (AZ-039)."""
    made: list[components.Filter] = []
    asked = _custom_rules(reader, policies, tcp=True)
    may_ask = _may_ask(reader, asked)
    for one in asked:
        provider = provider_of(reader, one.provider) if may_ask else None
        if provider is None:
            made.append(_tcp_filter(_refused(one.rules), ""))
            continue
        asking = tcp_ext_authz(provider)
        if asking is not None:
            made.append(_tcp_filter(_Rules(one.rules.shadow, one.rules.enforced), _EXT_AUTHZ_STATS))
            made.append(asking)
    return tuple(made)
