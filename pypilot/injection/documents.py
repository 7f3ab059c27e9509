"""Injection into whatever holds a Pod: workloads and lists of them, as `pypilot inject` reads them. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from pypilot.injection.errors import InjectionError
from pypilot.injection.inject import inject
from pypilot.injection.target import Installation
from pypilot.kinds.yaml_data import load_document, split_documents

_TEMPLATE: Final = ("spec", "template")
_PATHS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("v1", "Pod"): (),
    ("v1", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps.openshift.io", "DeploymentConfig"): _TEMPLATE,
    ("v1", "DeploymentConfig"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""(group, or version of the core group; kind) -> where its Pod is."""


class _Plain(yaml.SafeDumper):
    """Writes what is used twice twice: not every reader of manifests knows anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's signature
        return True


def inject_text(text: str, installation: Installation) -> str:
    """A stream of YAML with sidecars in its pods; documents without any keep their text.

    Raises:
        InjectionError: a pod cannot be injected; names the object.
        YamlError: a document is not YAML.
    """
    out, at = "", 0
    for chunk in split_documents(text):
        data, _ = load_document("\n" * chunk.line + chunk.text)
        begins = text.index(chunk.text, at)
        between, at = text[at:begins], begins + len(chunk.text)
        changed = inject_document(data, installation)
        if changed is data:
            out += between + chunk.text
        else:
            out += between
            out += "\n" if out and not out.endswith("\n") else ""
            out += "---\n" if out.strip() or chunk.text.startswith("---") else ""
            out += yaml.dump(changed, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
            out += "..." if chunk.text.endswith("\n...") else ""  # the next one may have no marker
    return out + text[at:]


def inject_document(document: Any, installation: Installation) -> Any:
    """The document with sidecars in its pods; itself if it has none that get one.

    Raises:
        InjectionError: a pod cannot be injected; names the object.
    """
    if not isinstance(document, Mapping):
        return document
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        items = [inject_document(item, installation) for item in document["items"]]
        return (
            document
            if all(a is b for a, b in zip(items, document["items"], strict=True))
            else {
                **document,
                "items": items,
            }
        )
    group = str(document.get("apiVersion", "")).partition("/")[0]
    path = _PATHS.get((group, str(document.get("kind"))))
    if path is None:
        return document
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    try:
        return _at(document, path, document, metadata, installation)
    except InjectionError as error:
        raise InjectionError(f"{document['kind']} {metadata.get('name', '')}: {error}") from None


def _at(
    data: Any, path: tuple[str, ...], owner: Mapping[str, Any], metadata: Mapping[str, Any], installation: Installation
) -> Any:
    if path:
        if not isinstance(data, Mapping) or not isinstance(data.get(path[0]), Mapping):
            return data
        part = data[path[0]]
        changed = _at(part, path[1:], owner, metadata, installation)
        return data if changed is part else {**data, path[0]: changed}
    namespace = metadata.get("namespace")
    namespace = namespace if isinstance(namespace, str) and namespace else "default"
    if data is owner:
        return inject(data, namespace, installation) or data
    made = inject(_as_controlled(data, owner, metadata), namespace, installation)
    return data if made is None else _as_template(made, data)


def _as_controlled(template: Mapping[str, Any], owner: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
    """A pod as the workload's controller would make it of the template, as far as injection looks at it."""
    own = template.get("metadata")
    if own is not None and not isinstance(own, Mapping):
        return template
    name = metadata.get("name")
    reference = {"apiVersion": owner.get("apiVersion"), "kind": owner.get("kind"), "name": name, "controller": True}
    return {**template, "metadata": {**(own or {}), "generateName": f"{name}-", "ownerReferences": [reference]}}


def _as_template(pod: dict[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    own = template.get("metadata") or {}
    kept = {k: v for k, v in pod["metadata"].items() if k in own or k not in ("generateName", "ownerReferences")}
    for key in ("generateName", "ownerReferences"):
        if key in own:
            kept[key] = own[key]
    return {**pod, "metadata": kept}
