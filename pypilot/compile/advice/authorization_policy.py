"""What an AuthorizationPolicy refers to and does not find: the provider that action CUSTOM asks (AZ-032)."""

from collections.abc import Iterator

from pypilot.compile.policies.ext_authz import provider_of
from pypilot.kinds.authorization_policy import AuthorizationPolicy
from pypilot.kinds.base import Finding, Ref
from pypilot.world.reader import Reader

_DENIED = "what the policy means is denied"


def _findings(reader: Reader, policy: AuthorizationPolicy) -> Iterator[Finding]:
    if policy.spec.action != "CUSTOM" or policy.spec.provider is None:
        return
    name = policy.spec.provider.name
    if provider_of(reader, name) is not None:
        return
    if any(provider.name == name for provider in reader.mesh().extension_providers):
        message = f"the extension provider {name!r} of MeshConfig cannot be asked: {_DENIED}"
    else:
        message = f"MeshConfig has no extension provider {name!r}: {_DENIED}"
    yield Finding("spec.provider.name", message, "warning", "unknown-provider")


def authorization_policy_advice(reader: Reader, ref: Ref) -> tuple[Finding, ...]:
    """The warnings about one AuthorizationPolicy."""
    policy = reader.policy(AuthorizationPolicy, ref)
    return tuple(_findings(reader, policy)) if policy is not None else ()
