"""Following a real API server when nothing is wrong: every kind, every change, namespaces, definitions, selectors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from e2e.kube import objects
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.crds import custom_kinds, definition
from e2e.kube.following import FAST, Follower, assert_converges, compiled, following, proxies_of, wait_until
from pypilot.kinds import KINDS
from pypilot.kinds.base import Kind, Ref
from pypilot.kube.connection import Access, KubernetesConnection
from pypilot.sources.kubernetes.source import KubernetesSource


async def test_every_kind_is_read_and_followed(cluster: Cluster, client: Client) -> None:
    place = "watch-all"
    await client.apply_all(objects.mesh(place))
    async with following(cluster.kubeconfig()) as follower:
        await assert_converges(follower, client)
        kinds = {data["kind"] for data in objects.mesh(place)}
        assert {kind for kind, found in follower.world.objects.items() if found} >= kinds
        assert all(k.state == "synced" for k in follower.source.statistics().kinds)
        # Created, changed and deleted.
        await client.apply_all([objects.service(place, "new"), objects.virtual_service(place, "app0", weight=1)])
        await client.delete(objects.service(place, "app2"))
        await wait_until(lambda: Ref("Service", place, "app2") in follower.removed, "the deletion")
        await assert_converges(follower, client)
        assert follower.removed == [Ref("Service", place, "app2")]
        assert not follower.emptied
        assert not follower.problems
        origin = follower.world.origins[Ref("Service", place, "new")]
        assert str(origin) == "cluster Kubernetes"


async def test_large_lists_come_in_pages(cluster: Cluster, client: Client) -> None:
    place = "watch-pages"
    await client.apply_all([objects.namespace(place), *(objects.service(place, f"s{i}") for i in range(25))])
    async with following(cluster.kubeconfig(), replace(FAST, page=4)) as follower:
        await assert_converges(follower, client)
        assert follower.kind("Service").lists == 1


async def test_only_the_config_map_keys_that_are_read_are_kept(cluster: Cluster, client: Client) -> None:
    place = "watch-maps"
    await client.apply_all(
        [
            objects.namespace(place),
            objects.config_map(place, "big", blob="x" * 10_000),
            objects.config_map(place, "bundle", **{"ca.crt": "PEM", "blob": "x" * 10_000}),
            objects.secret(place, "sh.helm.release.v1.a", "helm.sh/release.v1", release="x" * 10_000),
        ]
    )
    async with following(cluster.kubeconfig()) as follower:
        assert follower.get("ConfigMap", place, "big") is None
        bundle = follower.get("ConfigMap", place, "bundle")
        assert bundle is not None
        assert bundle.data == {"ca.crt": "PEM"}  # type: ignore[attr-defined]
        assert not [key for key in follower.world.objects.get("Secret", {}) if key[0] == place]
        await client.apply(objects.config_map(place, "big", **{"ca.crt": "PEM"}))
        await wait_until(lambda: follower.get("ConfigMap", place, "big") is not None, "the key")


async def test_namespace_scoped_mode_reads_only_the_given_namespaces(cluster: Cluster, client: Client) -> None:
    await client.apply_all([*objects.mesh("scoped-a", 1), *objects.mesh("scoped-b", 1), *objects.mesh("scoped-c", 1)])
    await client.apply_all([objects.namespace("istio-system"), objects.gateway("istio-system", "root")])
    options = {"namespaces": ("scoped-a", "scoped-b")}
    async with following(cluster.kubeconfig(), **options) as follower:
        places = {key[0] for found in follower.world.objects.values() for key in found}
        assert places == {"scoped-a", "scoped-b", "istio-system"}
        assert follower.kind("Node").state == "not read"
        await client.apply(objects.service("scoped-c", "unseen"))
        await client.apply(objects.service("scoped-b", "seen"))
        await wait_until(lambda: follower.get("Service", "scoped-b", "seen") is not None, "the service")
        assert follower.get("Service", "scoped-c", "unseen") is None


async def test_namespace_scoped_mode_needs_roles_only(cluster: Cluster, client: Client) -> None:
    rules = [
        {
            "apiGroups": sorted({k.group for k in KINDS}),
            "resources": [k.plural for k in KINDS if k.namespaced],
            "verbs": ["list", "watch"],
        }
    ]
    rbac = "rbac.authorization.k8s.io"
    await client.apply_all([objects.namespace("istio-system"), *objects.mesh("scoped-role", 1)])
    for place in ("istio-system", "scoped-role"):
        meta = {"name": "reader", "namespace": place}
        await client.apply({"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules})
        reference = {"apiGroup": rbac, "kind": "Role", "name": "reader"}
        subjects = [{"apiGroup": rbac, "kind": "User", "name": "scoped-reader"}]
        binding = {"kind": "RoleBinding", "metadata": meta, "roleRef": reference, "subjects": subjects}
        await client.apply({"apiVersion": f"{rbac}/v1", **binding})
    certificate, key = cluster.pki.issue("scoped-reader")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    kubeconfig = cluster.kubeconfig(user=user, name="scoped")
    async with following(kubeconfig, namespaces=("scoped-role",)) as follower:
        assert follower.get("VirtualService", "scoped-role", "app0") is not None
        assert not follower.problems


async def test_a_kind_that_may_not_be_read_is_reported_and_holds_readiness(cluster: Cluster, client: Client) -> None:
    certificate, key = cluster.pki.issue("nobody")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    kubeconfig = cluster.kubeconfig(user=user, name="nobody")
    await client.apply(objects.namespace("istio-system"))
    source = KubernetesSource(KubernetesConnection(Access(kubeconfig)), pace=FAST)
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.initial(), 2)
        errors = {k.kind: k.error for k in source.statistics().kinds}
        assert "pods is forbidden" in errors["Pod"]
    finally:
        await source.close()


async def test_discovery_selectors_are_live(cluster: Cluster, client: Client) -> None:
    selectors = "discoverySelectors:\n- matchExpressions:\n  - {key: tier, operator: In, values: [gold]}\n"
    await client.apply_all([objects.namespace("istio-system"), *objects.mesh("selected", 1), *objects.mesh("other", 1)])
    await client.apply(objects.namespace("selected", tier="gold"))
    config = objects.config_map("istio-system", "istio", mesh=selectors)
    await client.apply(config)
    try:
        async with following(cluster.kubeconfig()) as follower:
            places = {key[0] for found in follower.world.objects.values() for key in found}
            assert places == {"selected", "", "istio-system"}
            assert set(follower.world.objects["Namespace"]) == {("", "selected")}
            assert set(follower.world.objects["ConfigMap"]) >= {("istio-system", "istio")}
            # A label brings a namespace in and takes it out.
            await client.apply(objects.namespace("other", tier="gold"))
            await wait_until(lambda: follower.get("VirtualService", "other", "app0") is not None, "the namespace")
            await client.apply(objects.namespace("other", tier="tin"))
            await wait_until(lambda: follower.get("VirtualService", "other", "app0") is None, "its end")
            assert not [key for found in follower.world.objects.values() for key in found if key[0] == "other"]
            # So do selectors; a text that cannot be read changes nothing.
            await client.apply(objects.config_map("istio-system", "istio", mesh="discoverySelectors: ["))
            await client.apply(objects.service("selected", "later"))
            await wait_until(lambda: follower.get("Service", "selected", "later") is not None, "the service")
            assert follower.get("VirtualService", "other", "app0") is None
            await client.apply(objects.config_map("istio-system", "istio", mesh="{}"))
            await assert_converges(follower, client)
    finally:
        await client.delete(config)


@asynccontextmanager
async def undefined(client: Client, kind: Kind) -> AsyncIterator[None]:
    """Without the definition of a kind; tests that follow get it back."""
    await client.delete(definition(kind))
    await client.wait_gone(definition(kind))
    yield
    if f"{kind.plural}.{kind.group}" in await client.definitions():
        await client.delete(definition(kind))
        await client.wait_gone(definition(kind))


SERVICE_ENTRY = next(k for k in custom_kinds() if k.name == "ServiceEntry")


async def test_a_kind_that_appears_later_is_watched_as_soon_as_it_is_served(cluster: Cluster, client: Client) -> None:
    place = "watch-late"
    await client.apply_all(d for d in objects.mesh(place) if d["kind"] != "ServiceEntry")
    async with undefined(client, SERVICE_ENTRY), following(cluster.kubeconfig()) as follower:
        assert follower.kind("ServiceEntry").state == "not served"
        await client.apply_all([definition(SERVICE_ENTRY)])
        await client.apply(objects.service_entry(place, "ext"))
        await wait_until(lambda: follower.get("ServiceEntry", place, "ext") is not None, "the object")
        await assert_converges(follower, client)
        assert not follower.removed


async def test_crd_upgraded_to_another_served_version(cluster: Cluster, client: Client) -> None:
    """v1alpha3, then v1beta1 beside it, then v1 beside that and v1alpha3 no longer: nothing ever goes away."""
    place = "watch-upgrade"
    await client.apply_all(d for d in objects.mesh(place) if d["kind"] != "ServiceEntry")
    async with undefined(client, SERVICE_ENTRY):
        await client.apply_all([definition(SERVICE_ENTRY, ["v1alpha3"])])
        entry = {**objects.service_entry(place, "ext"), "apiVersion": f"{SERVICE_ENTRY.group}/v1alpha3"}
        await client.apply(entry)
        async with following(cluster.kubeconfig()) as follower:
            assert follower.kind("ServiceEntry").version == "v1alpha3"
            before = wire_bytes(follower)
            for versions in (["v1alpha3", "v1beta1"], ["v1alpha3", "v1beta1", "v1"]):
                await client.apply_all([definition(SERVICE_ENTRY, versions)])
                await wait_until(lambda v=versions[-1]: follower.kind("ServiceEntry").version == v, versions[-1])
                await assert_converges(follower, client)
            upgraded = definition(SERVICE_ENTRY, ["v1alpha3", "v1beta1", "v1"])
            upgraded["spec"]["versions"][0]["served"] = False
            await client.apply_all([upgraded])
            await client.apply(objects.service_entry(place, "more"))
            await wait_until(lambda: follower.get("ServiceEntry", place, "more") is not None, "another")
            await client.delete(objects.service_entry(place, "more"))
            await wait_until(lambda: follower.get("ServiceEntry", place, "more") is None, "its end")
            await assert_converges(follower, client)
            assert follower.removed == [Ref("ServiceEntry", place, "more")]
            assert not follower.emptied
            assert wire_bytes(follower) == before


def wire_bytes(follower: Follower) -> list[dict[str, dict[str, bytes]]]:
    return [compiled(follower.engine, proxy) for proxy in proxies_of(follower.world)]


async def test_slices_made_by_the_real_controllers_are_followed(cluster: Cluster, client: Client) -> None:
    if not cluster.has_controller_manager:
        pytest.skip("needs kube-controller-manager")
    place = "watch-controllers"
    cluster.start_controller_manager()
    try:
        await client.apply_all([objects.namespace(place), objects.node("node-a", "z1"), objects.service(place, "web")])
        async with following(cluster.kubeconfig()) as follower:
            await client.apply(objects.pod(place, "web-0", "web", "10.129.0.1"))
            service = next(k for k in follower.world.tables["services"] if k.namespace == place)  # type: ignore[attr-defined]
            await wait_until(lambda: bool(follower.world.tables["endpoints"].get(service)), "an endpoint")
            # Nobody here would confirm that its containers have ended.
            await client.delete(objects.pod(place, "web-0", "web", "10.129.0.1"))
            await wait_until(lambda: not follower.world.tables["endpoints"].get(service), "its end")
            await client.delete(objects.namespace(place))
            await wait_until(lambda: follower.get("Namespace", "", place) is None, "the end of the namespace")
            assert not [key for found in follower.world.objects.values() for key in found if key[0] == place]
            await assert_converges(follower, client)
    finally:
        cluster.stop_controller_manager()
