"""Values of an AuthorizationPolicy as Envoy's matchers (AZ-011…020). Pure.

A `*` stands at one end of a value or is all of it; in the middle it is a character like others.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address

from envoy.config.core.v3 import address_pb2, extension_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, regex_pb2, string_pb2, value_pb2

from pypilot.compile.messages import pack

JWT_FILTER = "envoy.filters.http.jwt_authn"
_PAYLOAD = "payload"
_SPIFFE = "spiffe://"
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def regex(expression: str) -> string_pb2.StringMatcher:
    """An RE2 expression for the whole text."""
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=expression))


def text(value: str, prefix: str = "", ignore_case: bool = False) -> string_pb2.StringMatcher:
    """`*` any but the empty text, `a*` prefix, `*a` suffix, else exact; `prefix` stands before the value (AZ-011).

    Args:
        value: as the user wrote it.
        prefix: what every text begins with, though the value does not say so.
        ignore_case: of letters.
    """
    if value == "*":
        return regex(".+")
    if value.startswith("*"):
        if prefix:
            return regex(f"{prefix}.*{quoted(value[1:])}")
        return string_pb2.StringMatcher(suffix=value[1:], ignore_case=ignore_case)
    if value.endswith("*"):
        return string_pb2.StringMatcher(prefix=prefix + value[:-1], ignore_case=ignore_case)
    return string_pb2.StringMatcher(exact=prefix + value, ignore_case=ignore_case)


def quoted(value: str) -> str:
    """The text as an RE2 expression for just itself, spelled as Go does."""
    return _SPECIAL.sub(r"\\\g<0>", value)


def principal_name(value: str) -> string_pb2.StringMatcher:
    """A peer's identity, written without `spiffe://` (AZ-012)."""
    return text(value, _SPIFFE)


def namespace_name(value: str) -> string_pb2.StringMatcher:
    """AZ-013."""
    return regex(f".*/ns/{'.*'.join(map(quoted, value.split('*')))}/.*")


def account_name(value: str, own_namespace: str) -> string_pb2.StringMatcher:
    """`NAME` of the policy's own namespace, or `NAMESPACE/NAME` (AZ-014)."""
    namespace, slash, account = value.partition("/")
    if not slash:
        namespace, account = own_namespace, value
    return regex(f"spiffe://.+/ns/{quoted(namespace)}/(.+/|)sa/{quoted(account)}(/.+)?")


def trust_domain_name(value: str) -> string_pb2.StringMatcher:
    """AZ-015."""
    if value == "*":
        return string_pb2.StringMatcher(prefix=_SPIFFE)
    before, star, after = value.partition("*")
    if star:
        return regex(f"spiffe://{quoted(before)}[^/]*{quoted(after)}/.*")
    return string_pb2.StringMatcher(prefix=f"{_SPIFFE}{value}/")


def cidr(value: str) -> address_pb2.CidrRange:
    """An address or a CIDR; of its address no bits are cut off."""
    address, slash, length = value.partition("/")
    bits = int(length) if slash else (128 if ":" in address else 32)
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    made = address_pb2.CidrRange(address_prefix=f"::ffff:{mapped}" if mapped else str(found))
    made.prefix_len.value = bits
    return made


def header(name: str, value: str, ignore_case: bool = False) -> routes.HeaderMatcher:
    """A request header; `*` means that it is there."""
    if value == "*":
        return routes.HeaderMatcher(name=name, present_match=True)
    return routes.HeaderMatcher(name=name, string_match=text(value, ignore_case=ignore_case))


def path(value: str) -> path_pb2.PathMatcher:
    """The path without its query."""
    return path_pb2.PathMatcher(path=text(value))


def path_template(value: str) -> extension_pb2.TypedExtensionConfig:
    """`{*}` for a segment, `{**}` for all that follow (AZ-019)."""
    template = value.replace("{**}", "**").replace("{*}", "*")
    config = uri_template_match_pb2.UriTemplateMatchConfig(path_template=template)
    return extension_pb2.TypedExtensionConfig(name="uri-template", typed_config=pack(config))


def metadata(filter_name: str, keys: Iterable[str], value: value_pb2.ValueMatcher) -> metadata_pb2.MetadataMatcher:
    """A value in the dynamic metadata of a filter."""
    segments = [metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in keys]
    return metadata_pb2.MetadataMatcher(filter=filter_name, path=segments, value=value)


def _string_value(matcher: string_pb2.StringMatcher) -> value_pb2.ValueMatcher:
    return value_pb2.ValueMatcher(string_match=matcher)


def _list_value(one_of: value_pb2.ValueMatcher) -> value_pb2.ValueMatcher:
    return value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=one_of))


def _any_of(values: Sequence[value_pb2.ValueMatcher]) -> value_pb2.ValueMatcher:
    return (
        values[0] if len(values) == 1 else value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=values))
    )


def claim(keys: Iterable[str], values: Iterable[str]) -> metadata_pb2.MetadataMatcher:
    """A claim of the request's token that is one of the values, or a list that holds one (AZ-020)."""
    texts = _any_of([_string_value(text(value)) for value in values])
    either = value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=[_list_value(texts), texts]))
    return metadata(JWT_FILTER, (_PAYLOAD, *keys), either)


def _claim_text(key: str, matcher: string_pb2.StringMatcher) -> metadata_pb2.MetadataMatcher:
    return metadata(JWT_FILTER, (_PAYLOAD, key), _string_value(matcher))


def request_principal(value: str) -> rbac_pb2.Principal:
    """ISSUER/SUBJECT, split at the last slash, for issuers are URLs (AZ-016)."""
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        issuer, subject = value, ""
    if value == "*":
        wanted = (text("*"), text("*"))
    elif value.startswith("*"):
        wanted = (text(issuer), string_pb2.StringMatcher(exact=subject)) if slash else (text("*"), text(value))
    elif value.endswith("*"):
        of_subject = text("*") if subject == "*" else string_pb2.StringMatcher(prefix=subject[:-1])
        wanted = (string_pb2.StringMatcher(exact=issuer), of_subject) if slash else (text(value), text("*"))
    else:
        wanted = (string_pb2.StringMatcher(exact=issuer), string_pb2.StringMatcher(exact=subject))
    both = [rbac_pb2.Principal(metadata=_claim_text(k, m)) for k, m in zip(("iss", "sub"), wanted, strict=True)]
    return rbac_pb2.Principal(and_ids=rbac_pb2.Principal.Set(ids=both))


def _filter_value(value: str) -> value_pb2.ValueMatcher:
    if value.startswith("[") and value.endswith("]"):
        return _list_value(_string_value(text(value.strip("[]"))))
    return _string_value(text(value))


def filter_values(filter_name: str, key: str, values: Iterable[str]) -> metadata_pb2.MetadataMatcher:
    """Values in the metadata of any filter; `[v]` for a list that holds it (AZ-022)."""
    return metadata(filter_name, (key,), _any_of([_filter_value(value) for value in values]))
