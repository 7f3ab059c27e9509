"""A large synthetic world, as plain API objects, and the nodes of its sidecars. Deterministic."""

from typing import Any

JsonObject = dict[str, Any]


def _object(api_version: str, kind: str, name: str, namespace: str = "", **body: Any) -> JsonObject:
    metadata: JsonObject = {"name": name, "labels": body.pop("labels", {})}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def service_objects(number: int, endpoints: int, namespaces: int) -> list[JsonObject]:
    """One service with an HTTP and a TCP port and its pods; every fifth has a DestinationRule and a VirtualService."""
    namespace, name = f"ns{number % namespaces}", f"svc{number}"
    address = f"10.{96 + number // 60000}.{number // 250 % 250 + 1}.{number % 250 + 1}"
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp", "port": 9000, "targetPort": 9000}]
    spec = {"clusterIP": address, "selector": {"app": name}, "ports": ports}
    out = [_object("v1", "Service", name, namespace, labels={"app": name}, spec=spec)]
    listed = []
    for i in range(endpoints):
        ip = number * endpoints + i
        pod_ip = f"10.{128 + ip // 62500}.{ip // 250 % 250}.{ip % 250 + 1}"
        out.append(pod(f"{name}-{i}", namespace, name, pod_ip, i))
        target = {"kind": "Pod", "name": f"{name}-{i}", "namespace": namespace}
        listed.append({"addresses": [pod_ip], "conditions": {"ready": True}, "targetRef": target})
    out.append(endpoint_slice(name, namespace, listed))
    if number % 5 == 0:
        out += [destination_rule(name, namespace), virtual_service(name, namespace, 80)]
    return out


def pod(name: str, namespace: str, app: str, ip: str, index: int) -> JsonObject:
    """A ready pod with a sidecar."""
    labels = {
        "app": app,
        "version": f"v{index % 2 + 1}",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": app,
        "service.istio.io/canonical-revision": f"v{index % 2 + 1}",
    }
    status = {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}
    spec = {"serviceAccountName": "default", "nodeName": f"node-{index % 3}"}
    return _object("v1", "Pod", name, namespace, labels=labels, spec=spec, status=status)


def endpoint_slice(service: str, namespace: str, endpoints: list[JsonObject]) -> JsonObject:
    """The slice of a service."""
    return _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{service}-s",
        namespace,
        labels={"kubernetes.io/service-name": service},
        addressType="IPv4",
        endpoints=endpoints,
        ports=[{"name": "http", "port": 8080}, {"name": "tcp", "port": 9000}],
    )


def destination_rule(service: str, namespace: str) -> JsonObject:
    """Two subsets, a pool and outlier detection."""
    policy = {"connectionPool": {"tcp": {"maxConnections": 100}}, "outlierDetection": {"consecutive5xxErrors": 7}}
    subsets = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    host = f"{service}.{namespace}.svc.cluster.local"
    spec = {"host": host, "trafficPolicy": policy, "subsets": subsets}
    return _object("networking.istio.io/v1", "DestinationRule", service, namespace, spec=spec)


def virtual_service(service: str, namespace: str, weight: int) -> JsonObject:
    """A header match, and a weighted default with a timeout."""
    host = f"{service}.{namespace}.svc.cluster.local"
    to = [{"destination": {"host": host, "subset": v}} for v in ("v1", "v2")]
    weighted = [{**to[0], "weight": weight}, {**to[1], "weight": 100 - weight}]
    match = [{"headers": {"x-user": {"exact": "ada"}}}]
    spec = {"hosts": [host], "http": [{"match": match, "route": [to[1]]}, {"timeout": "5s", "route": weighted}]}
    return _object("networking.istio.io/v1", "VirtualService", service, namespace, spec=spec)


def world_objects(services: int, endpoints: int, namespaces: int) -> list[JsonObject]:
    """All objects of a world."""
    out = [_object("v1", "Namespace", f"ns{k}") for k in range(namespaces)]
    for zone in range(3):
        labels = {"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": f"z{zone}"}
        out.append(_object("v1", "Node", f"node-{zone}", labels=labels))
    for number in range(services):
        out += service_objects(number, endpoints, namespaces)
    return out


def sidecar_nodes(objects: list[JsonObject], count: int) -> list[JsonObject]:
    """Envoy nodes (proto JSON) of the first pod of each service, then of the second pods, and so on."""
    pods = [o for o in objects if o["kind"] == "Pod"]
    pods.sort(key=lambda p: (int(p["metadata"]["name"].rpartition("-")[2]), int(p["metadata"]["labels"]["app"][3:])))
    return [_node(pods[i % len(pods)]) for i in range(count)]


def _node(of: JsonObject) -> JsonObject:
    meta, ip = of["metadata"], of["status"]["podIP"]
    name, namespace, zone = meta["name"], meta["namespace"], of["spec"]["nodeName"][-1]
    return {
        "id": f"sidecar~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local",
        "cluster": f"{meta['labels']['app']}.{namespace}",
        "locality": {"region": "r1", "zone": f"z{zone}"},
        "metadata": {
            "CLUSTER_ID": "Kubernetes",
            "INSTANCE_IPS": ip,
            "INTERCEPTION_MODE": "REDIRECT",
            "ISTIO_VERSION": "1.30.0",
            "LABELS": meta["labels"],
            "MESH_ID": "cluster.local",
            "NAME": name,
            "NAMESPACE": namespace,
            "NODE_NAME": of["spec"]["nodeName"],
            "SERVICE_ACCOUNT": "default",
            "WORKLOAD_NAME": meta["labels"]["app"],
        },
    }


def envoy_filter() -> JsonObject:
    """An EnvoyFilter of the kind that people have, for all proxies of the mesh."""
    manager = "envoy.filters.network.http_connection_manager"
    kinds = "type.googleapis.com/envoy.extensions.filters."
    lua = {
        "@type": f"{kinds}http.lua.v3.Lua",
        "default_source_code": {"inline_string": "function envoy_on_request(h) end"},
    }
    options = {
        "@type": f"{kinds}network.http_connection_manager.v3.HttpConnectionManager",
        "common_http_protocol_options": {"idle_timeout": "30s"},
    }
    inside = {"filterChain": {"filter": {"name": manager}}}
    router = {"filterChain": {"filter": {"name": manager, "subFilter": {"name": "envoy.filters.http.router"}}}}
    header = {"header": {"key": "x-patched", "value": "yes"}}

    def patch(apply_to: str, operation: str, value: JsonObject, **match: Any) -> JsonObject:
        return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value}}

    patches = [
        patch("HTTP_FILTER", "INSERT_BEFORE", {"name": "lua", "typed_config": lua}, listener=router),
        patch("NETWORK_FILTER", "MERGE", {"typed_config": options}, listener=inside),
        patch("VIRTUAL_HOST", "MERGE", {"response_headers_to_add": [header]}, context="SIDECAR_OUTBOUND"),
        patch("CLUSTER", "MERGE", {"connect_timeout": "1s"}, context="SIDECAR_OUTBOUND"),
    ]
    spec = {"configPatches": patches}
    return _object("networking.istio.io/v1alpha3", "EnvoyFilter", "patches", "istio-system", spec=spec)
