"""The images and the docker-compose example do what their pages say."""

import json
from collections.abc import Iterator

import pytest

from e2e.cluster.kubectl import eventually
from e2e.cluster.load import Load
from e2e.images.build import Images
from e2e.images.compose import Compose
from e2e.images.engine import Engine, EngineError

HOST = "shop.example"
ENOUGH = 100


# -- images -----------------------------------------------------------------------------------------------------------


def test_the_images_run_as_nobody_in_particular_and_start_their_program(engine: Engine, images: Images) -> None:
    users, programs = ("65532", "65532", "1337"), ("pypilot", "envoy", "pypilot")
    for name, user, program in zip(images, users, programs, strict=True):
        (image,) = json.loads(engine.run("image", "inspect", name))
        print(f"{name}: {image['Size'] / 1e6:.0f} MB")
        assert image["Config"]["User"] == f"{user}:{user}"
        assert image["Config"]["Entrypoint"] == [program]
        assert image["Config"]["Labels"]["org.opencontainers.image.title"] == name.partition(":")[0]


def test_they_run_with_nothing_that_can_be_written_and_no_privilege(engine: Engine, images: Images) -> None:
    bare = ("run", "--rm", "--read-only", "--cap-drop=ALL", "--network=none", "--security-opt=no-new-privileges")
    for name in (images.control_plane, images.sidecar):
        assert engine.run(*bare, name, "version").startswith("pypilot ")
    assert "/1.40.0/" in engine.run(*bare, images.proxy, "--version")
    assert "/1.40.0/" in engine.run(*bare, "--entrypoint=envoy", images.sidecar, "--version")


@pytest.mark.parametrize(
    ("image", "unwanted"),
    [("control_plane", "envoy_data_plane"), ("sidecar", "kubernetes_asyncio aiohttp rich watchfiles")],
)
def test_pypilot_is_compiled_and_has_no_more_than_it_needs(
    engine: Engine, images: Images, image: str, unwanted: str
) -> None:
    code = (
        "import importlib.util as u, pathlib, pypilot, sys;"
        "d = pathlib.Path(pypilot.__file__).parent;"
        "print(len(list(d.rglob('*.py'))), len(list(d.rglob('*.pyc'))), [m for m in sys.argv[1:] if u.find_spec(m)])"
    )
    words = ("-c", code, "pip", "pytest", "mypy", *unwanted.split())
    said = engine.run("run", "--rm", "--entrypoint=python", getattr(images, image), *words)
    sources, compiled, found = said.split(" ", 2)
    assert int(sources) == int(compiled) > 100
    assert found.strip() == "[]"


def test_the_proxy_image_has_envoy_and_the_authorities_of_the_public(engine: Engine, images: Images) -> None:
    script = "test ! -e /usr/local/bin/pip && grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt"
    assert int(engine.run("run", "--rm", "--entrypoint=bash", images.proxy, "-c", script)) > 50


def test_the_sidecar_captures_traffic_as_root_with_the_rights_that_injection_gives_it(
    engine: Engine, images: Images
) -> None:
    """INJ-006, with both kinds of tables that a kernel may have."""
    given = ("run", "--rm", "--user=0:0", "--network=none", "--security-opt=no-new-privileges", "--cap-drop=ALL")
    given += ("--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--entrypoint=bash")
    script = (
        "pypilot istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -b '*' -d 15090,15021,15020"
        " && iptables-save && iptables-legacy --version && command -v pilot-agent ip ip6tables-restore"
    )
    said = engine.run(*given, images.sidecar, "-c", script)
    assert "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006" in said
    assert "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001" in said


# -- docker-compose ---------------------------------------------------------------------------------------------------


@pytest.fixture
def https(compose: Compose) -> Iterator[Load]:
    """Requests through the gateway, each with a handshake of its own."""
    address = f"127.0.0.1:{compose.https_port}"
    with Load(compose.prefix, address, HOST, compose.root, fresh=True) as load:
        load.wait("answers", lambda report: report.answered > 0)
        load.forget()
        yield load


def test_https_goes_through_the_gateway_to_both_versions(https: Load) -> None:
    report = https.more(1000)
    assert (report.failed, report.failures) == (0, [])
    assert report.serials.keys() == {report.last_serial}
    assert abs(report.share("v1") - 0.9) <= 0.1


def test_an_edited_file_changes_the_weights_while_requests_go_on(compose: Compose, https: Load) -> None:
    routes = compose.config("routes.yaml")
    before = routes.read_text()
    assert before.count("weight: 90") == before.count("weight: 10") == 1
    routes.write_text(before.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 100"))
    try:
        https.wait("v2 alone", lambda report: report.last_version == "v2" and report.streak >= ENOUGH)
    finally:
        routes.write_text(before)
    https.wait("v1 again", lambda report: report.last_version == "v1")
    report = https.report()
    assert (report.failed, report.failures) == (0, [])


def test_a_broken_file_changes_nothing_and_is_reported(compose: Compose, https: Load) -> None:
    routes = compose.config("routes.yaml")
    before = routes.read_text()
    routes.write_text(before + "\n  : [")
    try:
        eventually("it is logged", lambda: "routes.yaml" in compose("logs", "control-plane"))
        report = https.more(ENOUGH)
    finally:
        routes.write_text(before)
    assert (report.failed, report.failures) == (0, [])


def logged(compose: Compose, service: str, text: str, count: int) -> None:
    eventually(f"{text} in the log of {service}", lambda: compose("logs", service).count(text) >= count)


def test_applications_reach_another_service_by_name_through_their_sidecars(compose: Compose) -> None:
    """The same URL leads each to the version that the VirtualService has for it."""
    for application, version in (("frontend", "v2"), ("reports", "v1")):
        for _ in range(5):
            seen = compose.get_from(application, "http://web.shop/")
            assert (seen["name"], seen["version"]) == ("web", version)
        # Envoy writes its access log when its buffer is full or ten seconds old.
        logged(compose, f"{application}-sidecar", f"outbound|80|{version}|web.shop", 5)


def test_a_name_that_nobody_registered_is_not_reached(compose: Compose) -> None:
    with pytest.raises(EngineError, match="502"):
        compose.get_from("frontend", "http://nobody.example/")


def test_a_restarted_control_plane_interrupts_nothing(compose: Compose, https: Load) -> None:
    compose("restart", "--timeout", "5", "control-plane")
    report = https.more(ENOUGH)
    assert (report.failed, report.failures) == (0, [])
    compose("up", "--detach", "--wait", "--no-build")
    test_an_edited_file_changes_the_weights_while_requests_go_on(compose, https)
