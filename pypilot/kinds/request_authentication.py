"""Istio RequestAuthentication (security.istio.io): which tokens a workload accepts (RA rows)."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from pypilot.kinds.authorization_policy import TargetReference
from pypilot.kinds.base import Duration, FieldPath, Finding, Held, Kind, Object, Spec, no_effect
from pypilot.kinds.peer_authentication import PodSelector, validate_selector
from pypilot.kinds.refusals import refuse, time_defects

_PLAIN_HEADER = re.compile(r"[-_A-Za-z0-9]+")
_BREAK = re.compile(r"[\0\r\n]")
_JwksUri = Annotated[str, msgspec.Meta(max_length=2048)]


class JWTHeader(Spec, frozen=True):
    """`jwtRules[].fromHeaders[]`."""

    name: str
    """Name of the header."""
    prefix: str = ""
    """What stands before the token."""


class ClaimToHeader(Spec, frozen=True):
    """`jwtRules[].outputClaimToHeaders[]`."""

    header: str
    """Header that is set."""
    claim: str
    """Claim that it gets; dots lead into objects."""


class JWTRule(Spec, frozen=True):
    """`jwtRules[]`."""

    issuer: str = ""
    """Who must have issued the token (`iss`)."""
    audiences: tuple[str, ...] = ()
    """For whom it must be meant (`aud`), one of them."""
    jwks_uri: _JwksUri = ""
    """Where the issuer's keys are; found by OpenID discovery if neither this nor jwks is given."""
    jwks_uri_former: _JwksUri = msgspec.field(name="jwks_uri", default="")
    """Former spelling of `jwksUri`."""
    jwks: str = ""
    """The issuer's keys themselves."""
    from_headers: tuple[JWTHeader, ...] = ()
    """Headers in which tokens are looked for."""
    from_params: tuple[str, ...] = ()
    """Query parameters in which tokens are looked for."""
    from_cookies: tuple[str, ...] = ()
    """Cookies in which tokens are looked for."""
    output_payload_to_header: str = ""
    """Header that gets the token's payload."""
    forward_original_token: bool = False
    """The token goes on to the workload."""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    """Claims that go on as headers."""
    timeout: Duration = Duration(5_000_000_000)
    """How long fetching the keys may take."""
    space_delimited_claims: tuple[str, ...] = ()
    """Claims that are lists written as one text, beside scope and permission."""
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"
    """Whether a request without a token passes."""

    @property
    def uri(self) -> str:
        """Where the issuer's keys are, in either spelling."""
        return self.jwks_uri or self.jwks_uri_former


class RequestAuthenticationSpec(Spec, frozen=True):
    """`spec`."""

    selector: PodSelector | None = None
    """Workloads that are meant; all of the namespace without it."""
    target_ref: TargetReference | None = None
    """The gateway, service or service entry that is meant."""
    target_refs: tuple[TargetReference, ...] = ()
    """The gateways, services or service entries that are meant."""
    jwt_rules: tuple[JWTRule, ...] = ()
    """Tokens that are accepted."""

    @property
    def targets(self) -> tuple[TargetReference, ...]:
        """Both forms of reference."""
        return self.target_refs or ((self.target_ref,) if self.target_ref is not None else ())


class RequestAuthentication(Object, frozen=True, kw_only=True):
    """A RequestAuthentication."""

    KIND: ClassVar[str] = "RequestAuthentication"

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
    """Which tokens are accepted."""


def _validate_rule(rule: JWTRule, path: str) -> Iterable[Finding]:
    if not rule.issuer and not rule.uri:
        yield Finding(f"{path}.issuer", "an issuer is needed, or a jwksUri: then any that these keys sign for is good")
    if "" in rule.audiences:
        yield Finding(f"{path}.audiences", "an audience must not be empty (VAL-007)")
    if rule.uri and rule.jwks:
        yield Finding(f"{path}.jwksUri", "only one of jwks and jwksUri may be given (VAL-007)")
    if rule.uri:
        try:
            uri = urlsplit(rule.uri)
            is_good = uri.scheme in ("http", "https") and bool(uri.hostname) and (uri.port is None or uri.port > 0)
        except ValueError:
            is_good = False
        if not is_good:
            yield Finding(f"{path}.jwksUri", f"{rule.uri!r} is not an http or https URL (VAL-007)")
    if rule.jwks and not _is_key_set(rule.jwks):
        yield Finding(f"{path}.jwks", "this is not a JSON Web Key Set (VAL-007)")
    for i, header in enumerate(rule.from_headers):
        if not header.name:
            yield Finding(f"{path}.fromHeaders[{i}].name", "a header needs a name (VAL-007)")
        for name, text in (("name", header.name), ("prefix", header.prefix)):
            if _BREAK.search(text):
                yield Finding(f"{path}.fromHeaders[{i}].{name}", f"{text!r} cannot stand in a header")
    if _BREAK.search(rule.output_payload_to_header):
        yield Finding(f"{path}.outputPayloadToHeader", f"{rule.output_payload_to_header!r} cannot stand in a header")
    for name, values in (("fromParams", rule.from_params), ("fromCookies", rule.from_cookies)):
        if "" in values:
            yield Finding(f"{path}.{name}", "a name must not be empty (VAL-007)")
    for i, output in enumerate(rule.output_claim_to_headers):
        if not output.header or not output.claim:
            yield Finding(f"{path}.outputClaimToHeaders[{i}]", "both header and claim are needed (VAL-007)")
        if _BREAK.search(output.header):
            yield Finding(f"{path}.outputClaimToHeaders[{i}].header", f"{output.header!r} cannot stand in a header")
    if rule.timeout < Duration(0):
        yield Finding(f"{path}.timeout", f"{rule.timeout} is negative")


def _is_key_set(text: str) -> bool:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and isinstance(found.get("keys"), list)


def validate_targets(
    selector: PodSelector | None, ref: TargetReference | None, refs: tuple[TargetReference, ...]
) -> Iterable[Finding]:
    """At most one way to say who is meant; targets are of the policy's own namespace."""
    if sum((selector is not None, ref is not None, bool(refs))) > 1:
        yield Finding("spec.targetRefs", "only one of selector, targetRef and targetRefs may be given (VAL-010)")
    paths = [("spec.targetRef", ref)] if ref is not None else []
    for path, target in (*paths, *((f"spec.targetRefs[{i}]", t) for i, t in enumerate(refs))):
        if target.kind != "Gateway":
            yield no_effect(path, f"policies are not attached to a {target.kind}, which would be a waypoint's work")
        if target.namespace:
            yield Finding(f"{path}.namespace", "must not be set: targets are of the policy's namespace (VAL-010)")


def validate(policy: RequestAuthentication) -> Iterable[Finding]:
    """Each rule alone; then whom it is for."""
    spec = policy.spec
    yield from validate_selector(spec.selector, "spec.selector")
    yield from validate_targets(spec.selector, spec.target_ref, spec.target_refs)
    for i, rule in enumerate(spec.jwt_rules):
        yield from _validate_rule(rule, f"spec.jwtRules[{i}]")


def refusals(policy: RequestAuthentication) -> Iterable[Finding]:
    """What Istio's webhook refuses although it could be served (VAL-008)."""
    for i, rule in enumerate(policy.spec.jwt_rules):
        path = f"spec.jwtRules[{i}]"
        for j, output in enumerate(rule.output_claim_to_headers):
            if output.header and not _PLAIN_HEADER.fullmatch(output.header):
                yield refuse(f"{path}.outputClaimToHeaders[{j}].header", f"{output.header!r} is not a plain name")
        for j, claim in enumerate(rule.space_delimited_claims):
            if not claim:
                yield refuse(f"{path}.spaceDelimitedClaims[{j}]", "a claim needs a name")
        yield from time_defects(f"{path}.timeout", rule.timeout)


_LEFT_OUT = ("outputClaimToHeaders", "outputPayloadToHeader", "forwardOriginalToken", "timeout")
"""What a rule can do without: less goes on to the workload, and nothing more is accepted."""
_LISTS = ("audiences", "fromHeaders", "fromParams", "fromCookies")
"""Of which one item may go if another stays; without any, more would be accepted than was meant."""
_PLACES = _LISTS[1:]
_NO_KEYS = '{"keys":[]}'


def _without(policy: Mapping[str, Any], path: FieldPath) -> FieldPath | None:
    """The part of a rule that can be left out alone."""
    if len(path) < 4:
        return None
    rule, (part, *below) = path[:3], path[3:]
    if part in _LEFT_OUT:
        return (*rule, part, below[0]) if part == "outputClaimToHeaders" and below else (*rule, part)
    if part in _LISTS and below:
        items = policy["spec"]["jwtRules"][path[2]].get(part)
        return (*rule, part, below[0]) if isinstance(items, list) and len(items) > 1 else None
    return None


def _hold(policy: Mapping[str, Any], path: FieldPath) -> Held | None:
    """A rule of which too little can be told keeps its place without keys: as where keys are missing, each token that
    only it could accept is refused (RA-013). The other rules stay as they are."""
    if path[:2] != ("spec", "jwtRules") or len(path) < 3 or _without(policy, path) is not None:
        return None
    spec = policy["spec"]
    rule = spec["jwtRules"][path[2]]
    given = rule if isinstance(rule, Mapping) else {}
    part = path[3] if len(path) > 3 else ""
    issuer = given.get("issuer")
    closed: dict[str, Any] = {name: given[name] for name in (*_PLACES, "presence") if name in given and name != part}
    if part == "presence":
        closed["presence"] = "REQUIRED"
    closed["issuer"] = issuer if isinstance(issuer, str) and issuer else "unreadable"
    closed["jwks"] = _NO_KEYS
    rules = [closed if i == path[2] else rule for i, rule in enumerate(spec["jwtRules"])]
    return Held({**policy, "spec": {**spec, "jwtRules": rules}}, "until it is corrected no token satisfies the rule")


KIND = Kind(
    RequestAuthentication,
    "security.istio.io",
    ("v1", "v1beta1"),
    "requestauthentications",
    units=("spec.jwtRules[]",),
    without=_without,
    hold=_hold,
    validate=validate,
    refusals=refusals,
    short_names=("ra",),
)
