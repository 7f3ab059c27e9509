"""What a DestinationRule refers to and does not find: its host, and endpoints for its subsets (IST0101)."""

from collections.abc import Iterator

from pypilot.compile.advice.hosts import is_covered
from pypilot.compile.naming import resolve_host
from pypilot.compile.routes.hosts import is_wildcard
from pypilot.kinds.base import Finding, Ref
from pypilot.kinds.destination_rule import DestinationRule
from pypilot.wire.node import Labels
from pypilot.world.model import Resolution, ServiceKey
from pypilot.world.reader import Reader


def _has_endpoint(reader: Reader, key: ServiceKey, labels: Labels) -> bool:
    return any(set(labels) <= set(endpoint.labels) for endpoint in reader.endpoints(key))


def _lists_endpoints(reader: Reader, key: ServiceKey) -> bool:
    """True if it can be told which endpoints there are, and there are some."""
    service = reader.service(key)
    return service is not None and service.resolution is Resolution.CLIENT_SIDE and bool(reader.endpoints(key))


def _findings(reader: Reader, rule: DestinationRule) -> Iterator[Finding]:
    host = resolve_host(rule.spec.host, rule.namespace, reader.constants.domain)
    if is_wildcard(host):
        return
    keys = reader.services_of(host)  # the rule may be for clients in any namespace
    if not keys:
        if not is_covered(reader, rule.namespace, host):
            message = f"{rule.spec.host!r} is no known service"
            if host != rule.spec.host:
                message += f", it stands for {host}"
            yield Finding("spec.host", message, "warning", "unknown-host")
        return
    if not all(reader.call(_lists_endpoints, key) for key in keys):
        return
    for i, subset in enumerate(rule.spec.subsets):
        labels = tuple(sorted(subset.labels.items()))
        if labels and not any(reader.call(_has_endpoint, key, labels) for key in keys):
            wanted = ", ".join(f"{k}={v}" for k, v in labels)
            message = f"no endpoint of {host} has {wanted}"
            yield Finding(f"spec.subsets[{i}].labels", message, "warning", "no-endpoint")


def destination_rule_advice(reader: Reader, ref: Ref) -> tuple[Finding, ...]:
    """The warnings about one DestinationRule."""
    rule = reader.destination_rule(ref)
    return tuple(_findings(reader, rule)) if rule is not None else ()
