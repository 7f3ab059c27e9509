"""The agent's HTTP port (BOOT-002): readiness, merged metrics, and the request to end."""

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pypilot.proxy.admin import Admin
from pypilot.proxy.probes import Target
from pypilot.proxy.status import StatusFacts, StatusServer


@contextmanager
def serving(**answers):
    """An HTTP server: answers by path, `/` as `_`; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.get(self.path.partition("?")[0].strip("/").replace("/", "_"))
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def port(admin=1, why="", probes=None, quits=None, metrics=(), **more):
    facts = StatusFacts(
        Admin(admin),
        lambda: why,
        Target("127.0.0.1", from_passthrough=False),
        quits,
        probes=probes or {},
        application_metrics=metrics,
        **more,
    )
    server = StatusServer(facts)
    server.start(0, "127.0.0.1")
    try:
        yield lambda path, method="GET", source="127.0.0.1": ask(server.port, path, method, source)
    finally:
        server.stop()


def ask(number, path, method="GET", source="127.0.0.1"):
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=60, source_address=(source, 0))
    connection.request(method, path)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(("why", "status"), [("", 200), ("no clusters yet", 503)])
def test_ready_says_why_not(why, status):
    with port(why=why) as get:
        assert get("/healthz/ready") == (status, why)


def test_metrics_of_envoy_and_of_the_application():
    with (
        serving(stats_prometheus="envoy 1\n") as admin,
        serving(metrics="app 2\n") as app,
        port(admin, metrics=[f"http://127.0.0.1:{app}/metrics"]) as get,
    ):
        assert get("/stats/prometheus") == (200, "envoy 1\napp 2\n")


def test_one_that_is_away_does_not_spoil_the_other():
    with serving(metrics="app 2\n") as app, port(metrics=[f"http://127.0.0.1:{app}/metrics"]) as get:
        assert get("/stats/prometheus") == (200, "app 2\n")


def test_it_ends_only_when_asked_by_post_and_where_that_is_allowed():
    ended = threading.Event()
    with port(quits=ended.set) as get:
        assert get("/quitquitquit")[0] == 405
        assert not ended.is_set()
        assert get("/quitquitquit", "POST")[0] == 200
        assert ended.wait(60)
    with port() as get:
        assert get("/quitquitquit", "POST")[0] == 403


def test_what_envoy_passes_on_does_not_end_it():
    """It comes from 127.0.0.6, whoever sent it."""
    asked = []
    with port(quits=lambda: asked.append(1)) as get:
        assert get("/quitquitquit", "POST", "127.0.0.6")[0] == 403
    assert asked == []


def test_probes_of_the_application():
    with serving(healthz="fine") as app:
        said = {
            "/app-health/app/livez": {"httpGet": {"port": app, "path": "/healthz"}},
            "/app-health/app/readyz": {"httpGet": {"port": app, "path": "/other"}},
            "/app-health/app/startupz": {"tcpSocket": {"port": app}},
        }
        with port(probes=said) as get:
            assert [get(path)[0] for path in said] == [200, 404, 200]
            assert get("/app-health/app/other")[0] == 400


def test_envoy_is_ready_only_with_configuration():
    """LIS-037."""
    with serving(stats="cluster_manager.cds.update_success: 1\n", ready="LIVE") as admin:
        assert Admin(admin).why_not_ready() == "no listeners yet"
    full = "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_rejected: 1\n"
    with serving(stats=full, ready="LIVE") as admin:
        assert Admin(admin).why_not_ready() == ""
