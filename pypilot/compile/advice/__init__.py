"""What an object refers to and does not find, and where objects get into each other's way: warnings, nothing else.

Adviser: a pure function `f(reader, ref)` from an object to its findings. It reads the world through the reader, so that
the memo knows when its answer may change. Nothing that is compiled may depend on an adviser.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pypilot.compile.advice.authorization_policy import authorization_policy_advice
from pypilot.compile.advice.destination_rule import destination_rule_advice
from pypilot.compile.advice.gateway import gateway_advice
from pypilot.compile.advice.virtual_service import virtual_service_advice
from pypilot.kinds.base import Finding, Ref
from pypilot.world.reader import Reader

Adviser = Callable[[Reader, Ref], tuple[Finding, ...]]

ADVISERS: Mapping[str, Adviser] = MappingProxyType(
    {
        "VirtualService": virtual_service_advice,
        "DestinationRule": destination_rule_advice,
        "Gateway": gateway_advice,
        "AuthorizationPolicy": authorization_policy_advice,
    }
)
"""By kind."""
