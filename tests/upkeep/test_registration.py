"""WE-004…008 on a server in memory: who gets an entry, what it says, and when it is forgotten."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.parse import parse_object
from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.upkeep.registration import Registrar, RegistrationError
from pypilot.wire.node import parse_node
from pypilot.world import registration as decide
from tests.upkeep.api import Api
from tests.xds.harness import until

BASE = "/apis/networking.istio.io/v1/namespaces/shop"
ENTRY = f"{BASE}/workloadentries/machines-192.0.2.1-far"
GROUP = f"{BASE}/workloadgroups/machines"
ACCOUNT = ("shop", "vm")
START = datetime(2031, 1, 1, tzinfo=UTC)
GRACE = 0.05


def node(**metadata):
    return parse_node(
        {
            "id": "sidecar~192.0.2.1~vm.shop~shop.svc.cluster.local",
            "locality": {"region": "r1", "zone": "z1"},
            "metadata": {
                "AUTO_REGISTER_GROUP": "machines",
                "NETWORK": "far",
                "LABELS": {"app": "prices", "level": "node", "istio-locality": "r9.z9"},
                **metadata,
            },
        }
    )


def group(**spec):
    labels = {"level": "group", "of": "group"}
    template = {"serviceAccount": "vm", "ports": {"http": 80}, "labels": {"level": "template", "t": "template"}}
    whole = {"template": template, "metadata": {"labels": labels, "annotations": {"note": "x"}}, **spec}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "metadata": {"name": "machines", "namespace": "shop", "uid": "u-1"},
        "spec": whole,
    }


class Stage:
    def __init__(self):
        self.api = Api()
        self.now = START
        self.api.put(GROUP, group())
        self.made = []

    def registrar(self, name="one", grace=GRACE):
        made = Registrar(self.api, name, lambda: self.now, grace)
        self.made.append(made)
        return made

    def entry(self, path=ENTRY):
        return self.api.objects.get(path)

    def noted(self):
        return self.entry()["metadata"]["annotations"]

    def conditions(self, path=ENTRY):
        return (self.entry(path).get("status") or {}).get("conditions", [])


@pytest.fixture
async def stage():
    made = Stage()
    yield made
    for registrar in made.made:
        await registrar.close()


async def test_a_machine_gets_an_entry_of_its_group(stage):
    """NODE-025."""
    assert await stage.registrar().connect(node(), ACCOUNT, START) is not None
    entry = stage.entry()
    assert entry["spec"] == {
        "address": "192.0.2.1",
        "ports": {"http": 80},
        "serviceAccount": "vm",
        "labels": {"app": "prices", "level": "node", "of": "group", "t": "template"},
        "network": "far",
        "locality": "r1/z1",
    }
    assert entry["metadata"]["labels"] == entry["spec"]["labels"]
    assert stage.noted() == {
        "istio.io/autoRegistrationGroup": "machines",
        "note": "x",
        "istio.io/workloadController": "one",
        "istio.io/connectedAt": "2031-01-01T00:00:00.000000Z",
    }
    (owner,) = entry["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("WorkloadGroup", "machines", "u-1")
    kind = kind_of("networking.istio.io/v1", "WorkloadEntry")
    assert kind is not None
    assert parse_object(kind, entry).clean


async def test_an_agent_that_probes_turns_health_checks_on(stage):
    await stage.registrar().connect(node(PROXY_CONFIG={"readinessProbe": {"tcpSocket": {"port": 80}}}), ACCOUNT, START)
    assert stage.noted()["proxy.istio.io/health-checks-enabled"] == "true"


async def test_pods_and_other_proxies_have_none(stage):
    assert await stage.registrar().connect(node(AUTO_REGISTER_GROUP=""), None, START) is None
    assert stage.api.calls == []


@pytest.mark.parametrize(
    ("account", "metadata", "code"),
    [
        (None, {}, "PERMISSION_DENIED"),
        (("other", "vm"), {}, "PERMISSION_DENIED"),
        (("shop", "thief"), {}, "PERMISSION_DENIED"),
        (ACCOUNT, {"AUTO_REGISTER_GROUP": "unknown"}, "FAILED_PRECONDITION"),
        (ACCOUNT, {"AUTO_REGISTER_GROUP": "", "WORKLOAD_ENTRY": "unknown"}, "FAILED_PRECONDITION"),
    ],
)
async def test_who_is_refused(stage, account, metadata, code):
    with pytest.raises(RegistrationError) as refused:
        await stage.registrar().connect(node(**metadata), account, START)
    assert refused.value.code == code
    assert stage.api.writes() == []


async def test_a_fault_is_told_and_the_machine_may_come_again(stage):
    stage.api.fault = lambda method, path: UnreachableError("away") if method == "POST" else None
    with pytest.raises(RegistrationError) as refused:
        await stage.registrar().connect(node(), ACCOUNT, START)
    assert refused.value.code == "UNAVAILABLE"
    assert "away" not in str(refused.value)
    stage.api.fault = lambda method, path: None
    assert await stage.registrar().connect(node(), ACCOUNT, START)


async def test_a_write_of_somebody_else_meanwhile_is_kept(stage):
    registrar = stage.registrar()
    await registrar.connect(node(), ACCOUNT, START)
    conflicts = iter([ApiError(409, "modified")])
    stage.api.fault = lambda method, path: next(conflicts, None) if method == "PUT" else None
    stage.now += timedelta(seconds=1)
    await registrar.connect(node(), ACCOUNT, stage.now)
    assert stage.noted()["istio.io/connectedAt"] == "2031-01-01T00:00:01.000000Z"


async def test_after_the_last_connection_and_the_grace_it_is_forgotten(stage):
    registrar = stage.registrar()
    both = [await registrar.connect(node(), ACCOUNT, START) for _ in range(2)]
    stage.now += timedelta(seconds=1)
    registrar.disconnect(both[0])
    await asyncio.sleep(3 * GRACE)
    assert "istio.io/disconnectedAt" not in stage.noted()
    registrar.disconnect(both[1])
    await until(lambda: "istio.io/disconnectedAt" in stage.noted())
    stage.now += timedelta(seconds=GRACE)
    await until(lambda: stage.entry() is None)


async def test_who_comes_back_here_or_elsewhere_is_kept(stage):
    for back in ("one", "two"):
        stage.api.objects.pop(ENTRY, None)
        one = stage.registrar("one")
        first = await one.connect(node(), ACCOUNT, stage.now)
        stage.now += timedelta(seconds=5)
        other = one if back == "one" else stage.registrar(back)
        await other.connect(node(), ACCOUNT, stage.now)
        stage.now += timedelta(seconds=5)
        one.disconnect(first)
        await asyncio.sleep(3 * GRACE)
        stage.now += timedelta(seconds=60)
        await asyncio.sleep(3 * GRACE)
        assert stage.noted()["istio.io/workloadController"] == back
        assert "istio.io/disconnectedAt" not in stage.noted()


async def test_the_leader_sweeps_what_replicas_left_behind(stage):
    one = stage.registrar("one", 3600.0)
    one.disconnect(await one.connect(node(), ACCOUNT, START))
    await until(lambda: "istio.io/disconnectedAt" in stage.noted())
    await one.close()
    kind = kind_of("networking.istio.io/v1", "WorkloadEntry")
    assert kind is not None
    leader = stage.registrar("two", 0.01)
    leader.changed([parse_object(kind, stage.entry()).object], [])
    stage.now += timedelta(seconds=60)
    sweeping = asyncio.create_task(leader.run())
    await until(lambda: stage.entry() is None)
    sweeping.cancel()


async def test_health_goes_into_the_status(stage):
    registrar = stage.registrar()
    present = await registrar.connect(node(), ACCOUNT, START)
    registrar.report(present, False, "refused")
    await until(lambda: stage.conditions())
    (bad,) = stage.conditions()
    assert (bad["type"], bad["status"], bad["message"]) == ("Healthy", "False", "refused")
    stage.now += timedelta(seconds=1)
    registrar.report(present, True, "")
    await until(lambda: stage.conditions()[0]["status"] == "True")
    assert "message" not in stage.conditions()[0]
    assert stage.conditions()[0]["lastTransitionTime"] == "2031-01-01T00:00:01.000000Z"
    assert stage.noted()["istio.io/workloadController"] == "one"


async def test_an_entry_of_a_user_keeps_existing_but_its_health_is_forgotten(stage):
    """NODE-025: the entry that WORKLOAD_ENTRY names."""
    path = f"{BASE}/workloadentries/own"
    annotations = {"proxy.istio.io/health-checks-enabled": "true"}
    spec = {"address": "192.0.2.1", "serviceAccount": "vm"}
    stage.api.put(path, {"metadata": {"annotations": annotations}, "spec": spec})
    registrar = stage.registrar()
    proxy = node(AUTO_REGISTER_GROUP="", WORKLOAD_ENTRY="own")
    with pytest.raises(RegistrationError):
        await registrar.connect(proxy, ("shop", "thief"), START)
    present = await registrar.connect(proxy, ACCOUNT, START)
    registrar.report(present, True, "")
    await until(lambda: stage.conditions(path))
    registrar.disconnect(present)
    await until(lambda: "istio.io/disconnectedAt" in stage.entry(path)["metadata"]["annotations"])
    stage.now += timedelta(seconds=60)
    await until(lambda: not stage.conditions(path))
    assert stage.entry(path)["spec"]["address"] == "192.0.2.1"


async def test_an_entry_of_a_user_without_health_checks_is_left_alone(stage):
    path = f"{BASE}/workloadentries/own"
    stage.api.put(path, {"spec": {"address": "192.0.2.1"}})
    assert await stage.registrar().connect(node(AUTO_REGISTER_GROUP="", WORKLOAD_ENTRY="own"), ACCOUNT, START) is None
    assert stage.api.writes() == []


def test_names() -> None:
    assert decide.entry_name("machines", "2001:db8::1", "") == "machines-2001-db8--1"
    assert len(decide.entry_name("g" * 300, "192.0.2.1", "n")) == 253


def test_times_of_istiod_are_understood() -> None:
    entry = {"metadata": {"annotations": {"istio.io/connectedAt": "2031-01-01T00:00:05.123456789Z"}}}
    assert decide.connected(entry, "two", START) is None
    assert decide.connected(entry, "two", START + timedelta(seconds=6)) is not None


def test_a_late_end_changes_nothing() -> None:
    noted = {"istio.io/workloadController": "one", "istio.io/connectedAt": "2031-01-01T00:00:05Z"}
    entry = {"metadata": {"annotations": noted}}
    assert decide.disconnected(entry, "one", START, START + timedelta(seconds=9)) is None
    assert decide.disconnected(entry, "two", START + timedelta(seconds=5), START) is None
    assert decide.disconnected(entry, "one", START + timedelta(seconds=5), START) is not None
