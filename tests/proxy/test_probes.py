"""BOOT-008: the application's probes, passed on as the kubelet asked them; WE-007: health without a kubelet."""

import asyncio
import datetime
import http.client
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pypilot.proxy.admin import Admin
from pypilot.proxy.health import Probe, read_probe, watch, why_not_well
from pypilot.proxy.probes import Target, probe
from pypilot.proxy.status import StatusFacts, StatusServer
from pypilot.proxy.values import AgentError

HERE = Target("127.0.0.1", 15020)
CHECK = "/grpc.health.v1.Health/Check"


class Seen:
    """Requests that a server got."""

    def __init__(self):
        self.requests = []


@contextmanager
def application(answers, tls=None):
    """`answers`: path -> status, headers, body."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.requests.append((self.path, dict(self.headers), self.client_address[0]))
            status, headers, body = answers.get(self.path, (404, {}, ""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen.port = server.server_address[1]
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()


def get(port, path="/", headers=None, **more):
    return probe({"httpGet": {"port": port, "path": path, **more}, "timeoutSeconds": 60}, HERE, headers)


def test_the_kubelets_headers_go_on():
    with application({"/ok": (200, {}, "fine")}) as app:
        headers = {"Host": "web.example:15020", "User-Agent": "kube-probe/1.34", "X-Own": "a", "Connection": "close"}
        assert get(app.port, "ok", headers) == (200, "fine")
        ((path, found, source),) = app.requests
        assert path == "/ok"
        assert source == "127.0.0.6"  # which is not captured (IPT-003)
        assert found["Host"] == f"web.example:{app.port}"
        assert (found["User-Agent"], found["X-Own"]) == ("kube-probe/1.34", "a")
        get(app.port, "/ok", {"Host": "named.example"})
        assert app.requests[1][1]["Host"] == "named.example"


@pytest.mark.parametrize("status", [200, 204, 404, 503])
def test_the_applications_status_is_the_answer(status):
    with application({"/": (status, {}, "")}) as app:
        assert get(app.port)[0] == status


def test_a_long_answer_is_cut():
    with application({"/": (200, {}, "x" * 50_000)}) as app:
        assert len(get(app.port)[1]) == 10 << 10


def test_redirects_are_followed_at_the_same_host_alone():
    with application({"/far": (302, {"Location": "http://elsewhere.example/"}, "")}) as app:
        assert get(app.port, "/far")[0] == 200
    answers = {
        "/a": (302, {"Location": "/b"}, ""),
        "/b": (301, {"Location": "/c?x=1"}, ""),
        "/c?x=1": (503, {}, ""),
        "/round": (302, {"Location": "/round"}, ""),
        "/nowhere": (302, {}, ""),
    }
    with application(answers) as app:
        assert get(app.port, "/a")[0] == 503
        assert get(app.port, "/round")[0] == 500
        assert get(app.port, "/nowhere")[0] == 200


@pytest.fixture(scope="module")
def server_tls(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "unknown")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_https_is_asked_without_looking_at_the_certificate(server_tls):
    with application({"/": (200, {}, "safe")}, server_tls) as app:
        assert get(app.port, scheme="HTTPS") == (200, "safe")
        assert get(app.port)[0] == 500


def test_a_probe_that_takes_too_long_fails():
    with socket_that_is_silent() as port:
        for said in ({"httpGet": {"port": port}}, {"grpc": {"port": port}}):
            assert probe({**said, "timeoutSeconds": 0.2}, HERE)[0] == 500
        assert probe({"tcpSocket": {"port": port}}, HERE)[0] == 200
    assert probe({"tcpSocket": {"port": port}}, HERE)[0] == 500


@contextmanager
def socket_that_is_silent():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def grpc_application(answers):
    """`answers`: service -> status; others are not found."""
    seen = []

    def check(request, context):
        service = request[2:].decode()
        seen.append((service, dict(context.invocation_metadata())["user-agent"]))
        if service not in answers:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08" + bytes([answers[service]]) if answers[service] else b""

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, seen
    finally:
        server.stop(0)


@pytest.mark.parametrize(
    ("service", "status"), [("", 200), ("up", 200), ("down", 500), ("unknown", 500), ("missing", 500)]
)
def test_grpc_health(service, status):
    with grpc_application({"": 1, "up": 1, "down": 2, "unknown": 0}) as (port, seen):
        said = {"grpc": {"port": port, "service": service}, "timeoutSeconds": 60}
        assert probe(said, HERE, {"User-Agent": "kube-probe/1.34"})[0] == status
        assert seen[0][0] == service
        assert seen[0][1].startswith("kube-probe/1.34")


def test_grpc_health_of_something_else():
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert probe({"grpc": {"port": port}, "timeoutSeconds": 60}, HERE)[0] == 500
    finally:
        server.stop(0)
    with application({}) as app:
        assert probe({"grpc": {"port": app.port}, "timeoutSeconds": 60}, HERE)[0] == 500


def ask(port, path, method="GET", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode(), answer.getheader("Content-Type")
    finally:
        connection.close()


@contextmanager
def agent(**facts):
    made = StatusFacts(Admin(1), lambda: "", HERE, **facts)
    server = StatusServer(made)
    server.start(0, "127.0.0.1")
    try:
        yield server.port
    finally:
        server.stop()


def test_the_agents_port_asks_the_application():
    with application({"/healthz": (200, {}, "fine")}) as app, grpc_application({"": 1}) as (port, _):
        probes = {
            "/app-health/a/livez": {"httpGet": {"port": app.port, "path": "/healthz"}, "timeoutSeconds": 60},
            "/app-health/a/readyz": {"grpc": {"port": port}, "timeoutSeconds": 60},
            "/app-health/a/startupz": {"tcpSocket": {"port": app.port}},
            "/app-lifecycle/a/prestopz": {"httpGet": {"port": app.port, "path": "/nowhere"}, "timeoutSeconds": 60},
        }
        with agent(probes=probes) as at:
            assert [ask(at, path)[0] for path in probes] == [200, 200, 200, 404]
            assert ask(at, "/app-health/a/livez")[1] == "fine"
            assert ask(at, "/app-health/b/livez")[0] == 400


def test_draining_is_asked_by_post():
    drained = threading.Event()
    with agent(drain=drained.set) as at:
        assert ask(at, "/drain")[0] == 405
        assert not drained.is_set()
        assert ask(at, "/drain", "POST")[0] == 200
        assert drained.wait(60)


def test_names_are_shown():
    with agent(names=lambda: {"a.": ("10.0.0.1",)}) as at:
        assert ask(at, "/debug/ndsz")[:2] == (200, '{"table": {"a.": {"ips": ["10.0.0.1"]}}}')
    with agent() as at:
        assert ask(at, "/debug/ndsz")[0] == 404


def test_metrics_of_several_targets_keep_their_form():
    """MESH-040."""
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    answers = {"/a": (200, {"Content-Type": kind}, "a 1\n# EOF\n"), "/b": (200, {"Content-Type": kind}, "b 2\n# EOF")}
    with application(answers) as app:
        urls = [f"http://127.0.0.1:{app.port}{path}" for path in (*answers, "/gone")]
        accept = {"Accept": "application/openmetrics-text", "X-Prometheus-Scrape-Timeout-Seconds": "60"}
        with agent(application_metrics=urls) as at:
            assert ask(at, "/stats/prometheus", headers=accept) == (200, "a 1\nb 2\n# EOF\n", kind)
            assert "openmetrics" in app.requests[0][1]["Accept"]
            ask(at, "/stats/prometheus")
            assert "openmetrics" not in app.requests[-1][1]["Accept"]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"httpGet": {"port": 1}, "tcpSocket": {"port": 1}},
        {"httpGet": {}},
        {"exec": {}},
        {"tcpSocket": {"port": 1}, "periodSeconds": "often"},
    ],
)
def test_a_readiness_probe_that_cannot_be_asked_is_named(said):
    with pytest.raises(AgentError, match="readinessProbe"):
        read_probe(said)


def test_readiness_probes():
    with application({"/ok": (200, {}, "")}) as app:
        good = read_probe({"httpGet": {"port": app.port, "path": "/ok", "host": "127.0.0.1"}, "timeoutSeconds": 60})
        assert why_not_well(good, HERE) == ""
        bad = read_probe({"httpGet": {"port": app.port, "path": "/else"}, "timeoutSeconds": 60})
        assert why_not_well(bad, HERE).startswith("404")
    assert why_not_well(read_probe({"exec": {"command": ["true"]}, "timeoutSeconds": 60}), HERE) == ""
    assert why_not_well(read_probe({"exec": {"command": ["false"]}, "timeoutSeconds": 60}), HERE) == "false: status 1"
    assert why_not_well(read_probe({"exec": {"command": ["/nowhere"]}}), HERE) != ""
    assert read_probe({"exec": {"command": ["true"]}}).period == 10


async def test_only_changes_of_health_are_told():
    answers = iter(["bad", "", "", "", "bad", "", "bad", "bad", "bad", ""])
    told, slept = [], []

    async def sleep(seconds):
        slept.append(seconds)

    asked = Probe(said={}, initial_delay=7, period=3, successes=2, failures=2)

    def one():
        try:
            return next(answers)
        except StopIteration:
            raise RuntimeError from None

    with pytest.raises(RuntimeError):
        async with asyncio.timeout(60):
            await watch(asked, one, told.append, sleep)
    assert told == ["", "bad"]
    assert slept[:2] == [7, 3]
