"""What people rely on who label a namespace for injection: identity, policy, probes, renewal, and an orderly end.

The tests share the applications of `office.py` and leave them as they found them. Mutual TLS is demanded throughout.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.cluster.installation import GATEWAY, OFFICE, SYSTEM, Installation
from e2e.cluster.kubectl import Data, eventually
from e2e.cluster.load import Load, Report
from e2e.cluster.office import (
    CLIENT,
    GUEST,
    PROXY,
    SERVER,
    STRANGER,
    Answer,
    Office,
    application,
    identity,
    policy,
    seconds_until_ready,
)

ENOUGH = 100
"""Requests that say that nothing is wrong."""
IN_A_ROW = 4
SMALL = 60 << 10
"""KiB that an agent may be resident with."""
TO_SERVER = {"selector": {"matchLabels": {"app": SERVER}}}


@pytest.fixture(scope="module")
def office(installation: Installation) -> Office:
    """The applications, running; removed with the installation."""
    made = Office(installation)
    made.open()
    return made


@contextmanager
def applied(office: Office, *objects: Data) -> Iterator[None]:
    """Objects that are there for a while."""
    office.kubectl.apply(*objects)
    try:
        yield
    finally:
        for data in objects:
            office.kubectl("delete", data["kind"], data["metadata"]["name"], "--namespace", OFFICE, "--wait")


def answered(office: Office, who: str, status: int) -> Answer:
    """Wait until requests of somebody's to the server end so; status 0: without any answer.

    Several in a row: connections from before a change may each see one more request through.
    """
    found: list[Answer] = []

    def look() -> bool:
        for _ in range(IN_A_ROW):
            found[:] = [office.ask(who)]
            if found[0].status != status:
                return False
        return True

    try:
        eventually(f"{who} is answered with {status}", look)
    except AssertionError as error:
        raise AssertionError(f"{error}; {found[0]}") from None
    return found[0]


def none_failed(report: Report) -> None:
    print(f"{report.answered} requests, {report.failed} failed, {len(report.callers)} certificates of the caller")
    assert (report.failed, report.failures) == (0, [])
    assert report.answered >= ENOUGH


# -- the pod ----------------------------------------------------------------------------------------------------------


def test_a_plain_deployment_becomes_a_pod_with_a_native_sidecar(office: Office) -> None:
    pod = office.pod(SERVER)
    init, proxy = pod["spec"]["initContainers"]
    assert (init["name"], proxy["name"], proxy["restartPolicy"]) == ("istio-init", PROXY, "Always")
    assert {init["image"], proxy["image"]} == {office.installation.place.sidecar_image}
    assert [c["name"] for c in pod["spec"]["containers"]] == ["app"]
    (token,) = (
        source["serviceAccountToken"]
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if source.get("serviceAccountToken", {}).get("audience")
    )
    assert token["audience"] == "istio-ca"
    states = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
    assert [s["restartCount"] for s in states] == [0, 0, 0]


def test_its_certificate_is_its_accounts(office: Office) -> None:
    for name in (SERVER, CLIENT, GUEST):
        shown = office.admin(f"deployment/{name}", "/certs")["certificates"]
        names = {n["uri"] for entry in shown for chain in entry["cert_chain"][:1] for n in chain["subject_alt_names"]}
        assert names == {identity(name)}


def test_pods_get_ready_and_their_agents_are_small(office: Office) -> None:
    for name in (SERVER, CLIENT, GUEST):
        pod = office.pod(name)
        found = office.memory(pod["metadata"]["name"])
        print(f"{name}: ready after {seconds_until_ready(pod):.0f} s, resident KiB {found}")
        assert found["agent"] <= SMALL


# -- who may speak to whom --------------------------------------------------------------------------------------------


def test_strict_refuses_plaintext_and_shows_the_server_its_callers_identity(office: Office) -> None:
    assert answered(office, STRANGER, 0).body in ("ConnectionResetError", "RemoteDisconnected")
    for who in (CLIENT, GUEST):
        caller = answered(office, who, 200).caller
        assert f"By={identity(SERVER)}" in caller
        assert f"URI={identity(who)}" in caller


def test_permissive_lets_plaintext_pass(office: Office) -> None:
    spec = {**TO_SERVER, "mtls": {"mode": "PERMISSIVE"}}
    with applied(office, policy("PeerAuthentication", SERVER, spec)):
        assert answered(office, STRANGER, 200).caller == ""
        assert f"URI={identity(CLIENT)}" in answered(office, CLIENT, 200).caller
    answered(office, STRANGER, 0)


def test_a_policy_lets_one_account_in_and_answers_the_other_with_403(office: Office) -> None:
    allowed = {"from": [{"source": {"principals": [identity(CLIENT).removeprefix("spiffe://")]}}]}
    with applied(office, policy("AuthorizationPolicy", SERVER, {**TO_SERVER, "rules": [allowed]})):
        assert answered(office, GUEST, 403).body == "RBAC: access denied"
        answered(office, CLIENT, 200)
    answered(office, GUEST, 200)


def test_an_injected_gateway_leads_outsiders_in(office: Office) -> None:
    """INJ-017: plaintext up to it, mutual TLS from there on, with the gateway's identity."""
    gate, host = "gate", "office.example"
    account, deployment, service = application(gate, OFFICE, "auto")
    template = deployment["spec"]["template"]
    template["metadata"]["annotations"] = {"inject.istio.io/templates": "gateway"}
    # Without a policy Kubernetes would say Always, for `auto` has no tag.
    template["spec"]["containers"] = [{"name": PROXY, "image": "auto", "imagePullPolicy": "IfNotPresent"}]
    service["spec"]["ports"][0]["targetPort"] = 8080
    port = {"number": 8080, "name": "http", "protocol": "HTTP"}
    gateway = {"selector": {"app": gate}, "servers": [{"port": port, "hosts": [host]}]}
    routes = {"hosts": [host], "gateways": [gate], "http": [{"route": [{"destination": {"host": SERVER}}]}]}
    made = [
        {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": gate, "namespace": OFFICE}, **spec}
        for kind, spec in (("Gateway", {"spec": gateway}), ("VirtualService", {"spec": routes}))
    ]
    with applied(office, account, deployment, service, *made):
        office.kubectl.rolled_out(OFFICE, gate)
        answer: Answer = eventually(
            "it leads to the server",
            lambda: (a := office.ask(STRANGER, f"http://{gate}.{OFFICE}/", host)).status == 200 and a,
        )
        assert f"URI={identity(gate)}" in answer.caller


def test_the_installed_gateway_leads_outsiders_in(office: Office) -> None:
    """It shows its own certificate where mutual TLS is demanded of everybody."""
    assert answered(office, STRANGER, 0).body in ("ConnectionResetError", "RemoteDisconnected")
    name, host = "front", "front.example"
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": [host]}]}
    routes = {"hosts": [host], "gateways": [name], "http": [{"route": [{"destination": {"host": SERVER}}]}]}
    made = [
        {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": OFFICE}, **spec}
        for kind, spec in (("Gateway", {"spec": gateway}), ("VirtualService", {"spec": routes}))
    ]
    with applied(office, *made):
        url = f"http://{GATEWAY}.{SYSTEM}/"
        answer: Answer = eventually(
            "it leads to the server", lambda: (a := office.ask(STRANGER, url, host)).status == 200 and a
        )
        assert f"By={identity(SERVER)}" in answer.caller
        assert f"URI=spiffe://cluster.local/ns/{SYSTEM}/sa/{GATEWAY}" in answer.caller


@pytest.mark.parametrize(
    ("name", "annotations"),
    [
        ("transparent", {"sidecar.istio.io/interceptionMode": "TPROXY"}),
        (
            "classic",
            {
                "sidecar.istio.io/nativeSidecar": "false",
                "proxy.istio.io/config": '{"holdApplicationUntilProxyStarts": true}',
            },
        ),
    ],
)
def test_other_forms_of_sidecar_take_and_send_what_is_theirs(
    office: Office, name: str, annotations: dict[str, str]
) -> None:
    """PC-004, INJ-005, PC-005: transparent interception as root; no native sidecar, and the application held back."""
    with applied(office, *application(name, OFFICE, office.installation.place.image, annotations)):
        office.kubectl.rolled_out(OFFICE, name)
        states = office.pod(name)["status"]
        assert [s["restartCount"] for s in states["containerStatuses"]] == [0] * len(states["containerStatuses"])
        assert f"URI={identity(name)}" in answered(office, name, 200).caller
        url = f"http://{name}.{OFFICE}/"
        caller = eventually("it is reached", lambda: (a := office.ask(CLIENT, url)).status == 200 and a.caller)
        assert f"By={identity(name)}" in caller
        assert f"URI={identity(CLIENT)}" in caller


# -- probes -----------------------------------------------------------------------------------------------------------


def test_probes_are_asked_by_the_agent_and_say_what_the_application_says(office: Office) -> None:
    """BOOT-008: the kubelet speaks no mutual TLS. Those of the others pass, or nothing would be ready here."""
    container = office.pod(SERVER)["spec"]["containers"][0]
    for kind, path in (("startup", "startupz"), ("readiness", "readyz"), ("liveness", "livez")):
        assert container[f"{kind}Probe"]["httpGet"]["path"] == f"/app-health/app/{path}"
    name = "unwell"
    account, deployment, service = application(name, OFFICE, office.installation.place.image)
    (unwell,) = deployment["spec"]["template"]["spec"]["containers"]
    unwell["readinessProbe"]["httpGet"]["path"] = "/status/503"
    with applied(office, account, deployment, service):

        def failing() -> bool:
            found = office.kubectl.items("pods", OFFICE, f"app={name}")
            states = [
                s
                for pod in found
                for part in ("initContainerStatuses", "containerStatuses")
                for s in pod["status"].get(part, ())
            ]
            ready = {s["name"]: s["ready"] for s in states if s.get("started")}
            return ready == {PROXY: True, "app": False}

        eventually("its proxy is ready and the application is not", failing)
        words = f"involvedObject.kind=Pod,reason=Unhealthy,involvedObject.namespace={OFFICE}"
        eventually(
            "the kubelet has had its answer",
            lambda: "statuscode: 503" in office.kubectl("get", "events", "-n", OFFICE, f"--field-selector={words}"),
        )


# -- renewal ----------------------------------------------------------------------------------------------------------


def test_certificates_are_renewed_and_no_request_fails(office: Office) -> None:
    """Each request has a handshake of its own, so that each certificate is used."""
    once = {"host": SERVER, "trafficPolicy": {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}}
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": SERVER, "namespace": OFFICE},
        "spec": once,
    }
    server = office.pod(SERVER)["metadata"]["name"]
    with applied(office, rule), office.load() as load:
        load.more(ENOUGH)
        before = office.serials(server)
        load.forget()
        load.wait("the client's second new certificate", lambda report: len(report.callers) >= 3)
        eventually("the server's new certificate", lambda: not before & office.serials(server))
        report = load.more(ENOUGH)
        none_failed(report)
        assert all(f"URI={identity(CLIENT)}" in caller for caller in report.callers)
    assert office.pod(SERVER)["metadata"]["name"] == server


# -- the end of pods --------------------------------------------------------------------------------------------------


def test_a_job_completes_with_its_sidecar(office: Office) -> None:
    name = "errand"
    program = f"import urllib.request as u; print(u.urlopen('http://{SERVER}/', timeout=60).read().decode())"
    container = {
        "name": "app",
        "image": office.installation.place.image,
        "command": ["python", "-c", program],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": OFFICE},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
    with applied(office, job):
        office.kubectl("wait", f"job/{name}", "--namespace", OFFICE, "--for=condition=complete", "--timeout=300s")
        seen = json.loads(office.kubectl("logs", f"job/{name}", "--namespace", OFFICE, "--container=app"))
        assert f"URI={identity('default')}" in seen["headers"]["x-forwarded-client-cert"]


def gone(office: Office, pods: set[str]) -> bool:
    return not pods & {pod["metadata"]["name"] for pod in office.kubectl.items("pods", OFFICE, f"app={SERVER}")}


@pytest.mark.parametrize("fresh", [False, True], ids=["kept-connections", "fresh-connections"])
def test_a_rolled_and_a_deleted_server_lose_no_request(office: Office, fresh: bool) -> None:
    with office.load(fresh=fresh) as load:
        load.more(ENOUGH)
        rolled(office, load)
        first = {office.pod(SERVER)["metadata"]["name"]}
        office.kubectl("scale", f"deployment/{SERVER}", "--namespace", OFFICE, "--replicas=2")
        office.kubectl.rolled_out(OFFICE, SERVER)
        office.kubectl("delete", "pod", *first, "--namespace", OFFICE, "--wait")
        office.kubectl("scale", f"deployment/{SERVER}", "--namespace", OFFICE, "--replicas=1")
        office.pod(SERVER)
        eventually("one is left", lambda: len(office.kubectl.items("pods", OFFICE, f"app={SERVER}")) == 1)
        report = load.more(ENOUGH)
    none_failed(report)
    assert len(report.pods) >= 3


def rolled(office: Office, load: Load) -> None:
    before = {pod["metadata"]["name"] for pod in office.pods(SERVER)}
    office.kubectl("rollout", "restart", f"deployment/{SERVER}", "--namespace", OFFICE)
    office.kubectl.rolled_out(OFFICE, SERVER)
    eventually("the old pods are gone", lambda: gone(office, before))
    load.more(ENOUGH)


def test_a_rolled_control_plane_is_not_missed_and_is_heard_again(office: Office) -> None:
    with office.load(fresh=True) as load:
        load.more(ENOUGH)
        office.kubectl("rollout", "restart", "deployment/pypilot", "--namespace", SYSTEM)
        office.kubectl.rolled_out(SYSTEM, "pypilot")
        none_failed(load.more(ENOUGH))
    with applied(office, policy("AuthorizationPolicy", SERVER, {**TO_SERVER, "action": "DENY", "rules": [{}]})):
        answered(office, CLIENT, 403)
    assert f"URI={identity(CLIENT)}" in answered(office, CLIENT, 200).caller
