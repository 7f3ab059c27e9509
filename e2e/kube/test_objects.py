"""Objects that are special, on the real API server: dying, huge, with fields of the future, of another type."""

import asyncio
import os
from typing import Any

import pytest

from e2e.kube import objects
from e2e.kube.client import Client, path_of
from e2e.kube.cluster import Cluster
from e2e.kube.crds import CRDS_VARIABLE
from e2e.kube.following import assert_converges, following, wait_until
from pypilot.kinds.base import Ref


async def test_an_object_with_a_finalizer_counts_until_it_is_gone(cluster: Cluster, client: Client) -> None:
    place = "object-finalizer"
    await client.apply_all(objects.mesh(place))
    held = objects.virtual_service(place, "app0")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.apply(held)
    async with following(cluster.kubeconfig()) as follower:
        await client.delete(held)
        await client.apply(objects.service(place, "after"))
        await wait_until(lambda: follower.get("Service", place, "after") is not None, "what came after")
        assert follower.get("VirtualService", place, "app0") is not None
        await assert_converges(follower, client)
        body = {"metadata": {"finalizers": None}}
        await client.request("PATCH", path_of(held), body, "application/merge-patch+json")
        await wait_until(lambda: follower.get("VirtualService", place, "app0") is None, "its end")
        await assert_converges(follower, client)
        assert follower.removed == [Ref("VirtualService", place, "app0")]


async def test_a_namespace_that_is_deleted_takes_its_objects(cluster: Cluster, client: Client) -> None:
    if not cluster.has_controller_manager:
        pytest.skip("needs kube-controller-manager")
    # Nobody here would confirm that a pod's containers have ended.
    going = [d for d in objects.mesh("object-goes") if d["kind"] != "Pod"]
    await client.apply_all([*objects.mesh("object-stays"), *going])
    async with following(cluster.kubeconfig()) as follower:
        cluster.start_controller_manager()
        try:
            await client.delete(objects.namespace("object-goes"))
            await wait_until(lambda: follower.get("Namespace", "", "object-goes") is None, "its end")
            await assert_converges(follower, client)
            places = {ref.namespace or ref.name for ref in follower.removed}
            assert places == {"object-goes"}
            assert follower.get("VirtualService", "object-stays", "app0") is not None
        finally:
            cluster.stop_controller_manager()


async def test_very_large_objects(cluster: Cluster, client: Client) -> None:
    """As large as etcd takes them: in a list, and as an event that comes in many pieces."""
    place = "object-large"
    rules = [{"name": f"r{i}", "match": [{"uri": {"exact": f"/{i}/" + "x" * 400}}]} for i in range(2000)]
    route = [{"destination": {"host": f"app0.{place}.svc.cluster.local"}}]

    def large(name: str) -> dict[str, Any]:
        data = objects.virtual_service(place, name)
        data["spec"]["http"] = [{**rule, "route": route} for rule in rules]
        return data

    await client.apply_all(objects.mesh(place))
    await client.request("POST", path_of(large("first")).rpartition("/")[0], large("first"))
    async with following(cluster.kubeconfig()) as follower:
        assert len(follower.get("VirtualService", place, "first").spec.http) == 2000  # type: ignore[union-attr]
        await client.request("POST", path_of(large("second")).rpartition("/")[0], large("second"))
        await wait_until(lambda: follower.get("VirtualService", place, "second") is not None, "the event")
        assert (
            follower.get("VirtualService", place, "second").spec.http
            == follower.get(  # type: ignore[union-attr]
                "VirtualService", place, "first"
            ).spec.http
        )  # type: ignore[union-attr]
        assert not follower.problems


@pytest.mark.skipif(CRDS_VARIABLE in os.environ, reason="the definitions that are given leave no unknown field")
async def test_unknown_fields_are_warned_of_and_nothing_more(cluster: Cluster, client: Client) -> None:
    place = "object-unknown"
    await client.apply_all(objects.mesh(place))
    future = objects.virtual_service(place, "app0", weight=30)
    future["spec"]["http"][0]["telepathy"] = {"range": "1km"}
    async with following(cluster.kubeconfig()) as follower:
        await client.apply(future)
        await wait_until(lambda: bool(follower.problems), "the warning")
        (problem,) = follower.problems
        assert (problem.severity, problem.field) == ("warning", "spec.http[0].telepathy")
        found = follower.get("VirtualService", place, "app0")
        assert found.spec.http[0].route[0].weight == 30  # type: ignore[union-attr]
        await assert_converges(follower, client)


async def test_a_secret_that_becomes_one_of_helm_goes_away(cluster: Cluster, client: Client) -> None:
    """A Secret's type cannot be changed: it is deleted and made again. The server then hides it from us."""
    place = "object-helm"
    await client.apply_all(objects.mesh(place))
    async with following(cluster.kubeconfig()) as follower:
        assert follower.get("Secret", place, "plain") is not None
        await client.delete(objects.secret(place, "plain"))
        await client.apply(objects.secret(place, "plain", "helm.sh/release.v1", release="x"))
        await wait_until(lambda: follower.get("Secret", place, "plain") is None, "its end")
        await client.delete(objects.secret(place, "plain"))
        await client.apply(objects.secret(place, "plain", key="again"))
        await wait_until(lambda: follower.get("Secret", place, "plain") is not None, "its return")
        await assert_converges(follower, client)


async def test_what_is_made_and_deleted_at_once_leaves_nothing(cluster: Cluster, client: Client) -> None:
    place = "object-brief"
    await client.apply_all(objects.mesh(place))
    async with following(cluster.kubeconfig()) as follower:

        async def brief(i: int) -> None:
            await client.apply(objects.service(place, f"brief{i}"))
            await client.delete(objects.service(place, f"brief{i}"))

        await asyncio.gather(*(brief(i) for i in range(40)))
        await assert_converges(follower, client)
        assert not [k for k in follower.world.objects["Service"] if k[1].startswith("brief")]
        assert not follower.emptied
