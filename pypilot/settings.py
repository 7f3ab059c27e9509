"""What a process was told: read once from flags and `PYPILOT_*` variables, then frozen.

A flag wins over the environment, the environment over the default. This is the only module that reads the environment.
A setting is one field of `Settings`: flags, variables, help and checks derive from it.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pypilot import __version__

ENVIRONMENT_PREFIX = "PYPILOT_"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

PlaintextSecrets = Literal["loopback", "any", "never"]
NativeSidecars = Literal["auto", "true", "false"]
KeyFetching = Literal["control-plane", "hybrid", "envoy"]
CompliancePolicy = Literal["none", "fips-140-2", "fips-140-3", "pqc"]
LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(ValueError):
    """A setting that cannot be used; says which and why."""


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _address(text: str) -> str:
    """`HOST:PORT`; `:PORT` is every interface, empty is off."""
    if not text:
        return ""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address, want HOST:PORT")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r} is not an address, want [IPv6]:PORT")
    return f"{host or '0.0.0.0'}:{port}"  # noqa: S104 - asked for in so many words


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1_000_000:
        raise ValueError(f"{text} is out of range")
    return value


def _long_seconds(text: str) -> float:
    value = float(text)
    if not 60 <= value <= 10 * 366 * 86_400:
        raise ValueError(f"{text} is out of range")
    return value


def _accounts(text: str) -> tuple[str, ...]:
    accounts = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for account in accounts:
        namespace, _, name = account.partition("/")
        if not _LABEL.fullmatch(namespace) or not name or "/" in name:
            raise ValueError(f"{account!r} is not NAMESPACE/NAME of a service account")
    return accounts


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{text} is out of range, want at least 1")
    return value


def _switch(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if not _LABEL.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a namespace")
    return names


def _cidrs(text: str) -> tuple[str, ...]:
    return tuple(str(ip_network(word.strip(), strict=False)) for word in text.split(",") if word.strip())


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{text!r} is not a DNS label")
    return text


def _name(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field is read and explained."""

    help: str
    convert: Callable[[str], Any]
    metavar: str = "TEXT"
    choices: tuple[str, ...] = ()
    is_switch: bool = False

    def read(self, text: str) -> Any:
        """The value of a text.

        Raises:
            ValueError: it has none.
        """
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(self.choices)}")
        return self.convert(text)


def _setting(default: Any, text: str, convert: Callable[[str], Any] = str, metavar: str = "TEXT", **more: Any) -> Any:
    return field(default=default, metadata={"setting": Setting(text, convert, metavar, **more)})


def _choice(default: str, text: str, choices: tuple[str, ...]) -> Any:
    return _setting(default, text, str, "|".join(choices), choices=choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, with its default."""

    config: tuple[Path, ...] = ()
    """Files and directories of YAML; in the environment separated like PATH."""
    mesh_config: Path | None = _setting(
        None, "File with a MeshConfig; it wins over the ConfigMap `istio`.", _path, "FILE"
    )

    kubernetes: bool = _setting(
        False, "Watch the cluster that this process runs in, as its service account.", _switch, is_switch=True
    )
    kubeconfig: Path | None = _setting(None, "Watch the cluster that this kubeconfig names.", _path, "FILE")
    kube_context: str = _setting("", "Context of the kubeconfig; empty: its current one.")
    namespaces: tuple[str, ...] = _setting(
        (), "Watch only these namespaces and the root namespace; Roles are enough for that.", _names, "NAME,NAME"
    )

    grpc_addr: str = _setting(
        "127.0.0.1:15010", "Where to serve xDS in plaintext, HOST:PORT; empty: nowhere.", _address, "ADDR"
    )
    secure_grpc_addr: str = _setting(
        "", "Where to serve xDS over TLS; with a certificate 0.0.0.0:15012 unless given.", _address, "ADDR"
    )
    webhook_addr: str = _setting(
        "",
        "Where to serve the webhooks that validate objects and inject proxies; needs a cluster.",
        _address,
        "ADDR",
    )
    write_status: bool = _setting(
        False, "Write what is wrong with Istio's objects into their status; needs a cluster.", _switch, is_switch=True
    )
    http_addr: str = _setting(
        "127.0.0.1:8080", "Where to serve /ready and /debug, HOST:PORT; empty: nowhere.", _address, "ADDR"
    )
    monitoring_addr: str = _setting(
        "127.0.0.1:15014", "Where to serve /metrics and /version, HOST:PORT; empty: nowhere.", _address, "ADDR"
    )
    tls_cert: Path | None = _setting(
        None,
        "Certificate chain (PEM) of the TLS port; without it a cluster's `istio-ca-secret` signs one.",
        _path,
        "FILE",
    )
    tls_key: Path | None = _setting(None, "Private key (PEM) of the TLS port.", _path, "FILE")
    tls_client_ca: Path | None = _setting(None, "CA (PEM) of the proxies' certificates.", _path, "FILE")
    plaintext_secrets: PlaintextSecrets = _choice(
        "loopback", "Who gets secrets over the plaintext port.", ("loopback", "any", "never")
    )

    ca_server: bool = _setting(
        True, "Sign certificates of workloads on the TLS port; needs a cluster or --ca-dir.", _switch, is_switch=True
    )
    ca_dir: Path | None = _setting(
        None,
        "Directory with the CA (ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem), made there if it has none; "
        "for a mesh without a cluster.",
        _path,
        "DIR",
    )
    token_keys: Path | None = _setting(
        None, "Keys (JWKS) by which tokens of service accounts are verified; with --ca-dir.", _path, "FILE"
    )
    workload_cert_ttl: float = _setting(
        86_400.0, "Seconds that a workload certificate holds, unless asked for otherwise.", _long_seconds, "SECONDS"
    )
    max_workload_cert_ttl: float = _setting(
        7_776_000.0, "Seconds that a workload certificate holds at most.", _long_seconds, "SECONDS"
    )
    workload_sds: bool = _setting(
        False,
        "Make key and certificate of proxies that have no agent, and send them over their own streams (TLS port only).",
        _switch,
        is_switch=True,
    )
    ca_trusted_node_accounts: tuple[str, ...] = _setting(
        ("istio-system/ztunnel",),
        "Service accounts that may ask for certificates of the pods of their own node.",
        _accounts,
        "NAMESPACE/NAME,…",
    )

    compliance_policy: CompliancePolicy = _choice(
        "none",
        "What narrows the TLS of proxies and of our own ports, whatever else is said of it.",
        ("none", "fips-140-2", "fips-140-3", "pqc"),
    )

    jwks_refresh: float = _setting(
        1200.0, "Seconds after which the keys of token issuers are fetched again.", _seconds, "SECONDS"
    )
    jwks_fetching: KeyFetching = _choice(
        "control-plane",
        "Who fetches keys of token issuers from a jwksUri; hybrid: Envoy, if the host is a service of the mesh.",
        ("control-plane", "hybrid", "envoy"),
    )
    jwks_ca: Path | None = _setting(
        None, "CAs (PEM) to trust beside the system's when keys of token issuers are fetched.", _path, "FILE"
    )
    jwks_blocked_cidrs: tuple[str, ...] = _setting(
        (), "Ranges of addresses of which no keys are fetched, beside link-local ones.", _cidrs, "CIDR,…"
    )

    several_authorizers: bool = _setting(
        False,
        "Ask several providers about one workload; else it refuses what they are asked about.",
        _switch,
        is_switch=True,
    )

    debounce_quiet: float = _setting(
        0.010, "Seconds without a further change after which a change is sent.", _seconds, "SECONDS"
    )
    debounce_max: float = _setting(0.100, "Seconds after which a change is sent at the latest.", _seconds, "SECONDS")
    concurrent_pushes: int = _setting(32, "How many streams are written to at a time.", _count, "COUNT")
    drain: float = _setting(5.0, "Seconds that streams are given to end when stopping.", _seconds, "SECONDS")

    cluster_domain: str = _setting("cluster.local", "DNS domain of the Kubernetes cluster.", _name)
    cluster_id: str = _setting("Kubernetes", "Name of the Kubernetes cluster.", _name)
    root_namespace: str = _setting("istio-system", "Namespace of the mesh's ConfigMap.", _name)
    revision: str = _setting(
        "default", "Istio's objects with another label istio.io/rev than this belong to somebody else.", _label
    )
    proxy_image: str = _setting(
        f"pypilot-sidecar:{__version__}", "Image of injected proxies: the agent, Envoy and iptables.", _name
    )
    native_sidecars: NativeSidecars = _choice(
        "auto",
        "Inject native sidecars, which start before the application; auto: unless a node's kubelet is older than 1.33.",
        ("auto", "true", "false"),
    )
    ambient: bool = _setting(
        True, "Let proxies of Istio's build reach ambient workloads over HBONE.", _switch, is_switch=True
    )

    log_format: LogFormat = _choice(
        "auto", "How to write logs; auto: console on a terminal, else json.", ("auto", "console", "json")
    )
    log_level: LogLevel = _choice("info", "What to log.", ("debug", "info", "warning", "error"))


SETTINGS: Mapping[str, Setting] = {f.name: f.metadata["setting"] for f in fields(Settings) if "setting" in f.metadata}
"""How each field is read; `config` has a form of its own."""


def flag_of(name: str) -> str:
    """`grpc_addr` -> `--grpc-addr`."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """`grpc_addr` -> `PYPILOT_GRPC_ADDR`."""
    return ENVIRONMENT_PREFIX + name.upper()


def default_of(name: str) -> Any:
    """The default of a setting."""
    return next(f.default for f in fields(Settings) if f.name == name)


def read_settings(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (texts and switches by field name, None where not given) and the environment.

    Raises:
        SettingsError: a value cannot be used, or some do not go together.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        given, source = flags.get(name), flag_of(name)
        if given is None:
            given, source = variables.get(variable_of(name)), variable_of(name)
        if given is None:
            continue
        try:
            values[name] = given if isinstance(given, bool) else setting.read(str(given))
        except ValueError as error:
            raise SettingsError(f"{source}: {error}") from None
    paths = flags.get("config") or [p for p in variables.get(variable_of("config"), "").split(os.pathsep) if p]
    values["kubernetes"] = values.get("kubernetes", False) or values.get("kubeconfig") is not None
    return _consistent(Settings(config=tuple(Path(p) for p in paths), **values), "secure_grpc_addr" in values)


def _consistent(settings: Settings, secure_was_given: bool) -> Settings:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise SettingsError("--tls-cert and --tls-key: one needs the other")
    has_identity = settings.tls_cert is not None or settings.ca_dir is not None
    if settings.secure_grpc_addr and not (has_identity or settings.kubernetes):
        raise SettingsError("--secure-grpc-addr: needs --tls-cert and --tls-key, --ca-dir, or --kubernetes")
    if settings.ca_dir is not None and (settings.kubernetes or settings.tls_cert is not None):
        raise SettingsError("--ca-dir: goes neither with --kubernetes, whose Secrets hold the CA, nor with --tls-cert")
    if settings.token_keys is not None and settings.ca_dir is None:
        raise SettingsError("--token-keys: needs --ca-dir")
    if settings.workload_sds and not (settings.ca_server and (settings.ca_dir or settings.kubernetes)):
        raise SettingsError("--workload-sds: needs a CA: --ca-dir or --kubernetes, and not --no-ca-server")
    if settings.webhook_addr and not settings.kubernetes:
        raise SettingsError("--webhook-addr: needs --kubernetes or --kubeconfig")
    if settings.write_status and not settings.kubernetes:
        raise SettingsError("--write-status: needs --kubernetes or --kubeconfig")
    if settings.kube_context and settings.kubeconfig is None:
        raise SettingsError("--kube-context: needs --kubeconfig")
    if settings.namespaces and not settings.kubernetes:
        raise SettingsError("--namespaces: needs --kubernetes or --kubeconfig")
    if settings.debounce_max < settings.debounce_quiet:
        raise SettingsError("--debounce-max: must not be less than --debounce-quiet")
    if has_identity and not secure_was_given:
        return replace(settings, secure_grpc_addr="0.0.0.0:15012")
    return settings
