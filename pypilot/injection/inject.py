"""A pod with its sidecar (INJ-005…018): what was injected before is taken out, templates are merged over what is left.

Pure. A pod that cannot be injected as it asks is an `InjectionError`; nothing else comes out of any JSON.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pypilot.injection.annotations import boolean, check_annotations
from pypilot.injection.config import InjectionConfig
from pypilot.injection.decision import injection_wanted
from pypilot.injection.errors import InjectionError
from pypilot.injection.gateway import gateway_template
from pypilot.injection.merging import merge
from pypilot.injection.metrics import merge_metrics, restore_metrics
from pypilot.injection.names import AUTO_IMAGE, INIT, OVERRIDES, PROBERS, PROXY, REWRITE_PROBES, STATUS, TEMPLATES
from pypilot.injection.pod import Json, check_shape, checked, container, proxy_of, without_empty
from pypilot.injection.probes import rewrite_probes
from pypilot.injection.sidecar import holds_application, sidecar_template
from pypilot.injection.target import Installation, Target
from pypilot.world.proxy_configs import effective_proxy_config

_TEMPLATES: Final = {"sidecar": sidecar_template, "gateway": gateway_template}
_LISTS: Final = ("containers", "initContainers")
_NETWORK: Final = "topology.istio.io/network"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def inject(data: Any, namespace: str, installation: Installation, variables: Mapping[str, str] = _NONE) -> Json | None:
    """The pod with its sidecar, None if it gets none. `data` is not changed.

    Args:
        data: A Pod in JSON form, or the template of a workload's pods.
        namespace: Its namespace, if it does not say so itself.
        installation: The mesh.
        variables: For the proxy, beside all others.

    Raises:
        InjectionError: it cannot be injected as it asks.
    """
    try:
        pod = checked(data)
        namespace = pod["metadata"].get("namespace") or namespace
        if not injection_wanted(pod, namespace, installation.config):
            return None
        return _injected(pod, namespace, installation, variables)
    except RecursionError:
        raise InjectionError("the Pod is nested too deeply") from None


def _injected(pod: Json, namespace: str, installation: Installation, variables: Mapping[str, str]) -> Json:
    annotations: dict[str, str] = pod["metadata"]["annotations"]
    check_annotations(annotations)
    proxy_config = _proxy_config(pod, namespace, installation)
    before = proxy_of(pod, PROXY) if STATUS in annotations else None
    network = pod["metadata"]["labels"].get(_NETWORK) or variables.get("ISTIO_META_NETWORK", "")
    network = network or installation.config.values.network
    variables = {**variables, **({"ISTIO_META_NETWORK": network} if network else {})}
    target = Target(installation, pod, namespace, proxy_config)
    _strip(target, before)

    template = _template(target, proxy_config)
    own = _moved(pod, template)
    merged: Json = merge(own, template)
    _reapply(merged, own, template, target.mode == "TPROXY")
    merged["metadata"]["annotations"] |= installation.config.injected_annotations
    if network:
        merged["metadata"]["labels"][_NETWORK] = network
    if (proxy := proxy_of(merged, PROXY)) is not None:
        _set_variables(proxy, variables)
        _point_at_agent(merged, proxy, target, before)
    merged["metadata"]["annotations"][STATUS] = _status(template, installation.revision)
    _order(merged, holds_application(target))
    return without_empty(merged)


def _proxy_config(pod: Json, namespace: str, installation: Installation) -> dict[str, Any]:
    """PC-001; the control plane is this one unless somebody said otherwise."""
    metadata = pod["metadata"]
    config, findings = effective_proxy_config(
        installation.proxy_configs,
        root_namespace=installation.root_namespace,
        default={"discoveryAddress": f"{installation.service}:15012", **installation.default_config},
        namespace=namespace,
        labels=metadata["labels"],
        annotations=metadata["annotations"],
    )
    if findings:
        raise InjectionError("; ".join(f"{f.field}: {f.message}" for f in findings))
    try:
        config = dict(json.loads(json.dumps(config, allow_nan=False)))
    except (TypeError, ValueError):
        raise InjectionError("the ProxyConfig is not JSON") from None
    _check_config(config)
    return config


def _check_config(config: Mapping[str, Any]) -> None:
    port = config.get("statusPort")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536):
        raise InjectionError(f"proxyConfig.statusPort: {port!r} is not a port")
    if config.get("interceptionMode") not in (None, "REDIRECT", "TPROXY", "NONE"):
        raise InjectionError("proxyConfig.interceptionMode: want REDIRECT, TPROXY or NONE")
    metadata = config.get("proxyMetadata")
    scalars = str | int | float
    if metadata is not None and not (
        isinstance(metadata, Mapping) and all(isinstance(v, scalars) for v in metadata.values())
    ):
        raise InjectionError("proxyConfig.proxyMetadata: want a mapping of texts")


def _strip(target: Target, proxy: Json | None) -> None:
    """Take an earlier result out of the pod, and put the user's own containers in again (INJ-018)."""
    metadata, spec = target.pod["metadata"], target.pod["spec"]
    said = _json_of(metadata["annotations"].get(STATUS, ""))
    for name in _LISTS:
        gone = said.get(name)
        gone = {g for g in gone if isinstance(g, str)} if isinstance(gone, list) else set()
        spec[name] = [c for c in spec[name] if c["name"] not in gone]
    if STATUS in metadata["annotations"]:
        restore_metrics(target.pod, proxy, target.status_port, target.installation.merges_metrics)
        del metadata["annotations"][STATUS]
    overrides = {n: v or [] for n, v in _json_of(metadata["annotations"].get(OVERRIDES, "")).items() if n in _LISTS}
    check_shape({"spec": overrides}, f"metadata.annotations[{OVERRIDES}]")
    for name, containers in overrides.items():
        spec[name] += [c for c in containers if container(spec[name], c["name"]) is None]


def _json_of(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _template(target: Target, proxy_config: Mapping[str, Any]) -> Json:
    """What the chosen templates give together (INJ-017)."""
    config = target.installation.config
    out: Json = {"metadata": {}, "spec": {name: [] for name in _LISTS}}
    for name in _chosen(target, config):
        builtin = _TEMPLATES.get(name)
        if builtin is None and name not in config.templates:
            known = ", ".join(sorted({*_TEMPLATES, *config.templates}))
            raise InjectionError(f"metadata.annotations[{TEMPLATES}]: there is no template {name!r}, but {known}")
        if builtin is not None:
            out = merge(out, builtin(target, proxy_config))
        out = merge(out, config.templates.get(name, {}))
        check_shape(out, f"template {name}")
    made = [c["name"] for name in _LISTS for c in out["spec"].get(name) or ()]
    if len(set(made)) < len(made):
        raise InjectionError(f"metadata.annotations[{TEMPLATES}]: these templates do not go together")
    return out


def _chosen(target: Target, config: InjectionConfig) -> list[str]:
    said = target.annotations.get(TEMPLATES)
    names = config.default_templates if said is None else tuple(word.strip() for word in said.split(","))
    return [name for alias in names for name in config.aliases.get(alias, (alias,))]


def _moved(pod: Json, template: Json) -> Json:
    """The pod with the user's own proxy and init container in the lists where the template has them."""
    spec = dict(pod["spec"])
    for here, there in (("initContainers", "containers"), ("containers", "initContainers")):
        made = {c["name"] for c in template["spec"].get(here) or ()}
        spec[here] = [*spec[here], *(c for c in spec[there] if c["name"] in made)]
        spec[there] = [c for c in spec[there] if c["name"] not in made]
    return {**pod, "spec": spec}


def _reapply(merged: Json, own: Json, template: Json, transparent: bool) -> None:
    """Fields that the user gave an injected container win (INJ-018); they are kept for the next injection."""
    overrides: Json = {}
    for name in _LISTS:
        for made in template["spec"].get(name) or ():
            given = container(own["spec"][name], made["name"])
            if given is None:
                continue
            overlay = {k: v for k, v in given.items() if k != "image" or v not in (AUTO_IMAGE, "", None)}
            overrides.setdefault(name, []).append(overlay)
            merged["spec"][name] = merge(merged["spec"][name], [overlay], name)
            _follow_user(merged, overlay, transparent)
    if overrides:
        merged["metadata"]["annotations"][OVERRIDES] = json.dumps(overrides, sort_keys=True)


def _follow_user(merged: Json, overlay: Json, transparent: bool) -> None:
    """Whoever lets the proxy run as somebody else exempts him from capture; transparent interception needs root."""
    user = (overlay.get("securityContext") or {}).get("runAsUser")
    if overlay["name"] != PROXY or not isinstance(user, int):
        return
    proxy, init = proxy_of(merged, PROXY), container(merged["spec"]["initContainers"], INIT)
    if transparent and proxy is not None:
        proxy["securityContext"]["runAsUser"] = 0
    arguments = (init or {}).get("args") or []
    if user and "-u" in arguments[:-1] and init is not None:
        at = arguments.index("-u") + 1
        init["args"] = [*arguments[:at], str(user), *arguments[at + 1 :]]


def _set_variables(proxy: Json, variables: Mapping[str, str]) -> None:
    """What the webhook's path and the network say wins over the user's own: they tell where the pod is."""
    others = [e for e in proxy.get("env") or () if e["name"] not in variables]
    proxy["env"] = [*others, *({"name": name, "value": value} for name, value in sorted(variables.items()))]


def _point_at_agent(merged: Json, proxy: Json, target: Target, before: Json | None) -> None:
    """Probes and scraping go to the agent, if it listens."""
    port, installation = target.status_port, target.installation
    if not port:
        return
    merge_metrics(merged, proxy, port, installation.merges_metrics)
    rewrites = installation.config.values.rewrite_app_http_probe
    try:
        rewrites = boolean(target.annotations.get(REWRITE_PROBES, str(rewrites).lower()))
    except ValueError:
        pass  # says nothing
    if rewrites:
        told = next((e.get("value") for e in (before or {}).get("env") or () if e["name"] == PROBERS), "")
        rewrite_probes(merged, proxy, port, told if isinstance(told, str) else "")


def _status(template: Json, revision: str) -> str:
    """What was added (INJ-010), which the next injection takes out again."""
    spec = template["spec"]
    fields = ("initContainers", "containers", "volumes", "imagePullSecrets")
    said = {name: [c["name"] for c in spec.get(name) or ()] or None for name in fields}
    return json.dumps({**said, "revision": revision or "default"}, separators=(",", ":"))


def _order(merged: Json, holds: bool) -> None:
    """A native sidecar comes first, after the capture; else capture is last: it would cut init containers off."""
    spec = merged["spec"]
    spec["containers"] = _placed(spec["containers"], PROXY, first=holds)
    if container(spec["initContainers"], PROXY) is not None:
        spec["initContainers"] = _placed(spec["initContainers"], PROXY, first=True)
        spec["initContainers"] = _placed(spec["initContainers"], INIT, first=True)
    else:
        spec["initContainers"] = _placed(spec["initContainers"], INIT, first=False)


def _placed(containers: list[Json], name: str, first: bool) -> list[Json]:
    found = [c for c in containers if c["name"] == name]
    others = [c for c in containers if c["name"] != name]
    return [*found, *others] if first else [*others, *found]
