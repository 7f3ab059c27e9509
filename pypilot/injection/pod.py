"""A Pod as plain JSON: its shape is checked once, so that all that follows can rely on it. Pure."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from pypilot.injection.errors import InjectionError

Json = dict[str, Any]
_CRON_JOB = re.compile(r"(.+)-\d{8,10}")
_HASHES = {"pod-template-hash": ("", "Deployment"), "rollouts-pod-template-hash": ("v1alpha1", "Rollout")}
"""Label -> (version if it is not the ReplicaSet's, kind) of what is above a ReplicaSet."""
_DEPLOYMENT_CONFIG = "deploymentconfig"


class _Shape(msgspec.Struct, rename="camel"):
    """Only types of fields that are read; other fields are carried along."""


class _Port(_Shape):
    container_port: int | None = None
    name: str | None = None


class _Env(_Shape):
    name: str


class _HttpGet(_Shape):
    port: int | str
    path: str | None = None
    scheme: str | None = None


class _TcpSocket(_Shape):
    port: int | str


class _Grpc(_Shape):
    port: int


class _Handler(_Shape):
    http_get: _HttpGet | None = None
    tcp_socket: _TcpSocket | None = None
    grpc: _Grpc | None = None


class _Lifecycle(_Shape):
    pre_stop: _Handler | None = None
    post_start: _Handler | None = None


class _Container(_Shape):
    name: str
    image: str | None = None
    ports: list[_Port] | None = None
    env: list[_Env] | None = None
    args: list[str] | None = None
    readiness_probe: _Handler | None = None
    liveness_probe: _Handler | None = None
    startup_probe: _Handler | None = None
    lifecycle: _Lifecycle | None = None
    security_context: dict[str, Any] | None = None
    volume_mounts: list[dict[str, Any]] | None = None


class _Named(_Shape):
    name: str | None = None


class _Owner(_Shape):
    api_version: str | None = None
    kind: str | None = None
    name: str | None = None
    controller: bool | None = None


class _Metadata(_Shape):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Spec(_Shape):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    volumes: list[_Named] | None = None
    image_pull_secrets: list[_Named] | None = None
    host_network: bool | None = None
    security_context: dict[str, Any] | None = None


class _Pod(_Shape):
    metadata: _Metadata | None = None
    spec: _Spec | None = None


class Workload(NamedTuple):
    """What owns a pod, as far as the pod itself shows it."""

    api_version: str
    kind: str
    name: str


def checked(data: Any) -> Json:
    """A copy that is safe to change, in which `metadata` and `spec` and their maps and lists of containers exist.

    Raises:
        InjectionError: it is no Pod; names the field.
    """
    check_shape(data)
    pod: Json = _copied(data)
    for part in ("metadata", "spec"):
        pod[part] = pod.get(part) or {}
    for name in ("labels", "annotations"):
        pod["metadata"][name] = pod["metadata"].get(name) or {}
    for name in ("containers", "initContainers"):
        pod["spec"][name] = pod["spec"].get(name) or []
    names = [c["name"] for name in ("containers", "initContainers") for c in pod["spec"][name]]
    if len(set(names)) < len(names):
        raise InjectionError("spec: two containers have the same name")
    return pod


def _copied(value: Any) -> Any:
    """A copy of which no two parts are one object, as they may be where YAML has an alias."""
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def check_shape(data: Any, what: str = "the Pod") -> None:
    """Check the types of what injection reads of a Pod, or of a part of one.

    Raises:
        InjectionError: they are wrong; names the field.
    """
    try:
        msgspec.convert(data, _Pod)
    except msgspec.ValidationError as error:
        raise InjectionError(f"{what} cannot be read: {error}") from None


def without_empty(pod: Json) -> Json:
    """What `checked` added and nobody used is taken out again."""
    for part, names in (("metadata", ("labels", "annotations")), ("spec", ("initContainers",))):
        for name in names:
            if not pod[part].get(name):
                pod[part].pop(name, None)
    return pod


def annotation(pod: Mapping[str, Any], name: str, default: str) -> str:
    """An annotation, or the default."""
    value: str = pod["metadata"]["annotations"].get(name, default)
    return value


def container(containers: list[Json], name: str) -> Json | None:
    """The one of that name."""
    return next((c for c in containers if c["name"] == name), None)


def proxy_of(pod: Json, name: str) -> Json | None:
    """Likewise, wherever it is."""
    return container(pod["spec"]["containers"], name) or container(pod["spec"]["initContainers"], name)


def workload_of(pod: Mapping[str, Any]) -> Workload:
    """The workload that the pod's owner and name tell (ISTIO_META_WORKLOAD_NAME, ISTIO_META_OWNER)."""
    metadata = pod["metadata"]
    name = metadata.get("name") or ""
    owner = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), None)
    if not metadata.get("generateName") or owner is None:
        return Workload("v1", "Pod", name)
    version, kind, owner_name = (owner.get(key) or "" for key in ("apiVersion", "kind", "name"))
    if kind == "ReplicaSet":
        for label, (other, above) in _HASHES.items():
            suffix = metadata["labels"].get(label)
            if suffix and owner_name.endswith(f"-{suffix}"):
                return Workload(other or version, above, owner_name.removesuffix(f"-{suffix}"))
    if kind == "ReplicationController" and (config := metadata["labels"].get(_DEPLOYMENT_CONFIG)):
        return Workload(version, "DeploymentConfig", config)
    if kind == "Job" and (found := _CRON_JOB.fullmatch(owner_name)):
        return Workload("batch/v1", "CronJob", found[1])
    return Workload(version, kind, owner_name or name)
