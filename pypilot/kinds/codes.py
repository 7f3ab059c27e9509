"""The codes of everything that can be wrong with a configuration: `docs/warnings.md` is made of this.

A code is a short name (`unknown-host`), what findings carry and users see, and a number that never changes (`PP0201`).
Nothing here finds anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

DOCUMENTATION = "https://github.com/pypilot/pypilot/blob/main/docs/warnings.md"


@dataclass(frozen=True, slots=True)
class Code:
    """One code."""

    number: str
    name: str
    meaning: str
    remedy: str
    istio: tuple[str, ...] = ()
    """Codes of `istioctl analyze` that mean the same or something wider."""

    @property
    def url(self) -> str:
        """Where it is explained."""
        return f"{DOCUMENTATION}#{self.name}"


GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "PP01": "Fields that are set",
        "PP02": "References to other objects",
        "PP03": "Objects that get into each other's way",
        "PP04": "Reading configuration",
        "PP05": "Patches of EnvoyFilters",
        "PP06": "Ingresses",
        "PP09": "pypilot itself",
    }
)

_ALL = (
    Code(
        "PP0101",
        "unknown-field",
        "The kind has no such field. Kubernetes drops it; in a file it has no effect.",
        "Correct the name, or remove the field.",
        ("IST0106 SchemaValidationError",),
    ),
    Code(
        "PP0102",
        "unsupported-field",
        "Istio's API has the field, but nothing in pypilot depends on it. The message says why.",
        "Remove it, or use what the message names. `docs/api-coverage.md` lists all such fields.",
    ),
    Code(
        "PP0103",
        "deprecated-field",
        "The field works, but has a successor.",
        "Use the field that the message names.",
        ("IST0002 Deprecated",),
    ),
    Code(
        "PP0104",
        "no-effect",
        "The field has no effect together with the others that are set.",
        "Remove it, or change what the message names.",
        ("IST0131 VirtualServiceIneffectiveMatch",),
    ),
    Code(
        "PP0105",
        "selects-all",
        "A selector without labels: it selects every workload of the namespace.",
        "Give labels, or leave the selector out.",
    ),
    Code(
        "PP0106",
        "partial-wildcard",
        "A wildcard that is not a whole label, `*x.example.com`: not everything that takes hosts understands it.",
        "Write `*.example.com`.",
    ),
    Code(
        "PP0107",
        "no-subnet",
        "A text that is no address and no CIDR. It matches nothing.",
        "Correct it, or remove it.",
    ),
    Code(
        "PP0108",
        "redundant-host",
        "A host of a Sidecar's egress that an earlier one selects already.",
        "Remove it.",
    ),
    Code(
        "PP0109",
        "refused",
        "It is served as Istio serves it, but Istio's webhook, and pypilot's, refuse to have it written.",
        "Change what the message names.",
        ("IST0106 SchemaValidationError",),
    ),
    Code(
        "PP0201",
        "unknown-host",
        "A host that is no service which the object's namespace can see. Requests sent there are answered with 503.",
        "Correct the name, create the Service or ServiceEntry, or export it (`exportTo`) to this namespace.",
        ("IST0101 ReferencedResourceNotFound",),
    ),
    Code(
        "PP0202",
        "unknown-subset",
        "A subset that no DestinationRule of the host defines. Requests sent there are answered with 503.",
        "Define the subset in a DestinationRule for the host, or correct its name.",
        ("IST0101 ReferencedResourceNotFound",),
    ),
    Code(
        "PP0203",
        "unknown-port",
        "A port that the host does not have, or none where the host has several.",
        "Name one of the host's ports.",
        ("IST0112 VirtualServiceDestinationPortSelectorRequired",),
    ),
    Code(
        "PP0204",
        "unknown-gateway",
        "A Gateway that does not exist. Nothing is bound to it.",
        "Correct NAMESPACE/NAME, or create the Gateway.",
        ("IST0101 ReferencedResourceNotFound",),
    ),
    Code(
        "PP0205",
        "unknown-delegate",
        "A VirtualService that does not exist, or is no delegate. The route that refers to it is left out.",
        "Correct name and namespace, or create it without hosts and gateways.",
        ("IST0101 ReferencedResourceNotFound",),
    ),
    Code(
        "PP0206",
        "unknown-credential",
        "A Secret or ConfigMap that does not exist where the workload looks for it. TLS fails until it does.",
        "Create it in the namespace of the gateway's workload, or correct the name.",
        ("IST0101 ReferencedResourceNotFound",),
    ),
    Code(
        "PP0207",
        "no-endpoint",
        "A subset that none of the host's endpoints belongs to. Requests sent there are answered with 503.",
        "Correct the subset's labels, or start a workload that has them.",
    ),
    Code(
        "PP0208",
        "unknown-provider",
        "An extension provider that MeshConfig does not have, or that cannot be asked: its service is not known, or one"
        " of its fields is wrong. Whatever the policy means is denied.",
        "Correct the name, or the entry of `extensionProviders`.",
    ),
    Code(
        "PP0301",
        "conflicting-hosts",
        "Several VirtualServices give routes for a host to all sidecars. Only the oldest counts.",
        "Merge them, or bind all but one to gateways.",
        ("IST0109 ConflictingMeshGatewayVirtualServiceHosts",),
    ),
    Code(
        "PP0302",
        "host-not-in-gateway",
        "A VirtualService is bound to a Gateway none of whose servers serves any of its hosts.",
        "Add the host to a server of the Gateway, or correct it.",
        ("IST0132 VirtualServiceHostNotFoundInGateway",),
    ),
    Code(
        "PP0303",
        "unreachable-rule",
        "A rule can never be used, because another one before it takes everything.",
        "Move it up, or remove it.",
        ("IST0130 VirtualServiceUnreachableRule",),
    ),
    Code(
        "PP0304",
        "repeated-name",
        "Two servers of a Gateway have one name, or their ports have. Both are served, but of two HTTPS servers on one "
        "port number whose ports have one name only the first is, and servers of one name share their statistics.",
        "Name each server and port of a Gateway differently.",
    ),
    Code("PP0401", "invalid", "A field's value cannot be used.", "Correct it.", ("IST0106 SchemaValidationError",)),
    Code("PP0402", "syntax", "A text is not valid YAML or JSON.", "Correct it."),
    Code("PP0403", "unreadable", "A file or directory cannot be read.", "See the message."),
    Code("PP0404", "missing", "A file or directory does not exist.", "Correct the path."),
    Code("PP0405", "unknown-kind", "pypilot does not read objects of this kind.", "None is needed."),
    Code("PP0406", "unknown-version", "The kind has no such version; it is read as another.", "Correct `apiVersion`."),
    Code("PP0407", "duplicate", "An object is defined more than once.", "Remove all definitions but one."),
    Code("PP0408", "watch", "A source cannot be followed.", "See the message."),
    Code("PP0409", "credential", "A certificate or key cannot be used.", "Replace it."),
    Code("PP0410", "shadowed", "An object of the cluster is also in a file, which wins.", "Remove one of them."),
    Code("PP0411", "keys", "The keys of a token issuer cannot be had. Its tokens are refused.", "See the message."),
    Code(
        "PP0501",
        "bad-patch-value",
        "The value of a patch is no message of Envoy's. The patch is left out.",
        "Correct the value; the message names what Envoy's message does not have.",
    ),
    Code(
        "PP0502",
        "patch-matches-nothing",
        "A patch changes nothing at any connected proxy that it is for.",
        "Correct its match, or remove it.",
        ("IST0151 EnvoyFilterUsesRelativeOperation", "IST0155 EnvoyFilterUsesRelativeOperationWithProxyVersion"),
    ),
    Code(
        "PP0503",
        "patch-failed",
        "A patch could not be applied to what it matches, which stays as it was.",
        "See the message.",
    ),
    Code(
        "PP0504",
        "agent-only",
        "A patch is for the bootstrap, which Istio's agent makes. It is not sent to proxies.",
        "None is needed.",
    ),
    Code(
        "PP0601",
        "ingress-backend",
        "A path of an Ingress has no backend that can be used. The path is left out.",
        "Name a Service of the Ingress's namespace and one of its ports.",
        ("IST0101 ReferencedResourceNotFound",),
    ),
    Code(
        "PP0602",
        "ingress-default-backend",
        "The default backend of an Ingress has no effect: it would answer for all other hosts of the gateway.",
        "Write a VirtualService for those hosts.",
    ),
    Code(
        "PP0603",
        "ingress-tls-without-secret",
        "TLS of an Ingress without a secretName: there is no HTTPS for its hosts.",
        "Give the name of a Secret.",
    ),
    Code(
        "PP0604",
        "ingress-rule-without-paths",
        "A rule of an Ingress without paths has no effect.",
        "Give paths, or remove the rule.",
    ),
    Code("PP0901", "apply-failed", "An object could not be taken up. What was known stays.", "Report the defect."),
    Code("PP0902", "compile-failed", "Resources could not be compiled. The last good ones stay.", "Report the defect."),
)

CODES: Mapping[str, Code] = MappingProxyType({code.name: code for code in _ALL})
"""By name."""
