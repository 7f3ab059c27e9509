"""What people rely on in a cluster: traffic while everything behind it changes, fails and comes back.

The tests share one installation and leave it as they found it. Nothing is timed: each waits for what must come.
"""

import pytest

from e2e.cluster.installation import (
    CONTROL_PLANE,
    GATEWAY,
    GATEWAYS,
    HOST,
    PILOTS,
    ROOT_CONFIG_MAP,
    SHOP,
    SYSTEM,
    Installation,
)
from e2e.cluster.kubectl import KubectlError, eventually, is_ready
from e2e.cluster.load import Load

ENOUGH = 100
"""Requests in a row that say that a change is complete: Envoy's workers take it over one by one."""


def ready_pods(installation: Installation, selector: str) -> list[str]:
    return sorted(p["metadata"]["name"] for p in installation.kubectl.items("pods", SYSTEM, selector) if is_ready(p))


def exactly(installation: Installation, selector: str, count: int) -> list[str]:
    """Wait until so many pods run and all of them are ready; their names."""

    def settled() -> list[str]:
        pods = installation.kubectl.items("pods", SYSTEM, selector)
        names = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
        return sorted(names) if len(names) == len(pods) == count else []

    found: list[str] = eventually(f"{count} pods of {selector}, all ready", settled)
    return found


def alone(load: Load, version: str) -> None:
    load.wait(f"{version} alone", lambda report: report.last_version == version and report.streak >= ENOUGH)


def shown(load: Load, serial: str) -> None:
    load.wait(f"serial {serial}", lambda report: report.last_serial == serial and report.serial_streak >= ENOUGH)


def a_change_arrives(installation: Installation, load: Load) -> None:
    """The control plane has the gateway's ear: both versions get all requests in turn."""
    for weights, version in (((0, 100), "v2"), ((100, 0), "v1")):
        installation.send(*weights)
        alone(load, version)


def none_failed(*loads: Load) -> None:
    for load in loads:
        report = load.report()
        print(f"{report.answered} requests and {sum(report.serials.values())} handshakes, {report.failed} failed")
        assert (report.failed, report.failures) == (0, [])
        assert report.answered >= ENOUGH


# -- at rest ----------------------------------------------------------------------------------------------------------


def test_control_plane_and_gateway_run_and_have_never_restarted(installation: Installation) -> None:
    for selector in (PILOTS, GATEWAYS):
        (name,) = exactly(installation, selector, 1)
        pod = installation.kubectl.get("pod", SYSTEM, name)
        assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]


def test_the_root_is_published_in_every_namespace(installation: Installation) -> None:
    names = {i["metadata"]["name"] for i in installation.kubectl.items("namespaces", "")}
    assert {SYSTEM, SHOP} <= names
    eventually("a root in each namespace", lambda: installation.published_roots() >= names)
    roots = {installation.kubectl.get("configmap", n, ROOT_CONFIG_MAP)["data"]["root-cert.pem"] for n in names}
    assert len(roots) == 1


def test_https_from_a_secret_reaches_the_application(https: Load) -> None:
    report = https.more(ENOUGH)
    assert report.statuses.keys() == {"200"}
    assert report.versions.keys() <= {"v1", "v2"}


def test_plain_http_reaches_the_application_by_its_node_port(installation: Installation) -> None:
    address = installation.address("http2")
    with Load(installation.place.prefix, address, HOST, None, fresh=True) as http:
        http.more(ENOUGH)
        none_failed(http)


def test_the_webhook_refuses_what_is_invalid_and_names_the_field(installation: Installation) -> None:
    name = "pypilot-validator-istio-system"

    def policy() -> bool:
        found = installation.kubectl.get("validatingwebhookconfiguration", SYSTEM, name)
        return all(w["failurePolicy"] == "Fail" for w in found["webhooks"])

    eventually("the webhook is in force", policy)
    # A schema allows that; only the webhook knows better.
    with pytest.raises(
        KubectlError, match=r'"pypilot\.validation\.istio\.io" denied the request: .*spec\.http\[0\]\.route'
    ):
        installation.send(0, 0)


# -- configuration changes --------------------------------------------------------------------------------------------


def test_edited_weights_are_found_again_in_the_requests(installation: Installation, https: Load) -> None:
    for v1, v2 in ((50, 50), (90, 10), (100, 0)):
        installation.send(0, 100)
        alone(https, "v2")
        installation.send(v1, v2)
        https.wait("v1", lambda r: r.last_version == "v1")
        https.more(ENOUGH)  # by now all of Envoy's workers have it
        assert https.forget().failed == 0
        report = https.more(1000)
        print(f"{v1}:{v2} gave {report.versions}")
        # Six standard deviations of 1000 requests, and no more than that.
        assert abs(report.share("v1") - v1 / 100) <= 0.10, f"{v1}:{v2} gave {report}"
    none_failed(https)


def test_a_rotated_secret_fails_no_handshake(installation: Installation, fresh_https: Load, https: Load) -> None:
    old = fresh_https.more(ENOUGH).last_serial
    for _ in range(3):
        certificate = installation.authority.issue(HOST)
        new = f"{certificate.serial:x}"
        assert new != old
        installation.show(certificate)
        shown(fresh_https, new)
        report = fresh_https.forget()
        assert (report.failed, report.failures) == (0, [])
        assert fresh_https.more(ENOUGH).serials.keys() == {new}
        old = new
    none_failed(fresh_https, https)


# -- the control plane fails and comes back ---------------------------------------------------------------------------


def test_a_killed_control_plane_loses_no_request(installation: Installation, https: Load, fresh_https: Load) -> None:
    (killed,) = exactly(installation, PILOTS, 1)
    installation.kubectl("delete", "pod", killed, "--namespace", SYSTEM, "--force", "--grace-period=0")
    https.more(ENOUGH)
    fresh_https.more(ENOUGH)
    (name,) = exactly(installation, PILOTS, 1)
    assert name != killed
    a_change_arrives(installation, https)
    none_failed(https, fresh_https)


def test_a_rolled_control_plane_loses_no_request(installation: Installation, https: Load, fresh_https: Load) -> None:
    before = exactly(installation, PILOTS, 1)
    installation.kubectl("rollout", "restart", f"deployment/{CONTROL_PLANE}", "--namespace", SYSTEM)
    installation.kubectl.rolled_out(SYSTEM, CONTROL_PLANE)
    assert exactly(installation, PILOTS, 1) != before
    a_change_arrives(installation, https)
    none_failed(https, fresh_https)


def test_of_three_replicas_one_leads_and_another_when_it_is_killed(installation: Installation, https: Load) -> None:
    def at_least(count: int) -> None:
        # The autoscaler sets the number; without metrics it still keeps to its limits.
        installation.kubectl.patch("hpa", SYSTEM, CONTROL_PLANE, {"spec": {"minReplicas": count}})

    at_least(3)
    try:
        pods = exactly(installation, PILOTS, 3)
        leader = eventually("one of them leads", lambda: (name := installation.leader()) in pods and name)
        lease = installation.kubectl.get("lease", SYSTEM, "pypilot-leader")["spec"]
        https.more(1000)
        again = installation.kubectl.get("lease", SYSTEM, "pypilot-leader")["spec"]
        assert (again["holderIdentity"], again.get("leaseTransitions")) == (
            lease["holderIdentity"],
            lease.get("leaseTransitions"),
        )

        installation.kubectl("delete", "pod", leader, "--namespace", SYSTEM, "--force", "--grace-period=0")
        others = exactly(installation, PILOTS, 3)
        assert leader not in others
        assert eventually("another one leads", lambda: (name := installation.leader()) in others and name) != leader
        a_change_arrives(installation, https)
    finally:
        at_least(1)
        installation.kubectl("scale", f"deployment/{CONTROL_PLANE}", "--namespace", SYSTEM, "--replicas=1")
        exactly(installation, PILOTS, 1)
    a_change_arrives(installation, https)
    none_failed(https)


# -- the gateway fails and comes back ---------------------------------------------------------------------------------


def test_a_rolled_gateway_gets_its_configuration_and_loses_no_request(
    installation: Installation, https: Load, fresh_https: Load
) -> None:
    before = exactly(installation, GATEWAYS, 1)
    installation.kubectl("rollout", "restart", f"deployment/{GATEWAY}", "--namespace", SYSTEM)
    installation.kubectl.rolled_out(SYSTEM, GATEWAY)
    assert exactly(installation, GATEWAYS, 1) != before
    a_change_arrives(installation, https)
    none_failed(https, fresh_https)


def test_a_killed_gateway_gets_its_configuration(installation: Installation) -> None:
    (killed,) = exactly(installation, GATEWAYS, 1)
    installation.kubectl("delete", "pod", killed, "--namespace", SYSTEM, "--force", "--grace-period=0")
    (name,) = exactly(installation, GATEWAYS, 1)
    assert name != killed
    address = installation.address("https")
    with Load(installation.place.prefix, address, HOST, installation.root, fresh=True) as load:
        load.wait("answers", lambda report: report.streak >= 1 or report.answered >= ENOUGH)
        a_change_arrives(installation, load)
        load.forget()
        load.more(ENOUGH)
        none_failed(load)
