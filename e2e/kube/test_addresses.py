"""SE-016, SE-018 on a real API server: the leader writes status, as a service account with no more than it needs."""

from e2e.kube.control_plane import namespace, replica, settle, until
from pypilot.kinds.parse import parse_object
from pypilot.kinds.service_entry import KIND

SPACE = "addresses"
PATH = f"/apis/networking.istio.io/v1/namespaces/{SPACE}/serviceentries"


def entry(name, **spec):
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    body = {"hosts": [f"{name}.example"], "resolution": "DNS", "ports": ports, **spec}
    metadata = {"name": name, "namespace": SPACE}
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": body}


async def given(client, name):
    found = await client.request("GET", f"{PATH}/{name}")
    return [a["value"] for a in (found.get("status") or {}).get("addresses", ())]


async def show(client, made):
    """What the watch of the replica's source would show."""
    items = (await client.request("GET", PATH))["items"]
    made.services.objects_changed([parse_object(KIND, item).object for item in items], [])


async def test_the_leader_writes_addresses_into_the_status(cluster, client):
    await settle(client, SPACE)
    await client.apply_all(
        [namespace(SPACE), entry("a"), entry("b"), entry("none", addresses=["192.0.2.1"], resolution="STATIC")]
    )
    async with replica(cluster, client, SPACE) as made:
        await show(client, made)

        async def both():
            return await given(client, "a") and await given(client, "b")

        await until(both)
        await show(client, made)
        first = {name: await given(client, name) for name in ("a", "b")}
        assert sorted(v for values in first.values() for v in values) == [
            "2001:2::1", "2001:2::2", "240.240.0.1", "240.240.0.2",
        ]  # fmt: skip
        assert await given(client, "none") == []
        assert made.services.statistics().addresses.errors == {}
    async with replica(cluster, client, SPACE) as made:  # another leader keeps what is there
        await client.apply(entry("c"))
        await show(client, made)
        await until(lambda: given(client, "c"))
        assert {name: await given(client, name) for name in ("a", "b")} == first
        assert not {*await given(client, "c")} & {v for values in first.values() for v in values}
    await client.wipe()
