"""`pypilot inject` gives what the webhook gives, and leaves the rest of the text alone; `pypilot wait`."""

import http.server
import threading

import pytest
import yaml
from click.testing import CliRunner

from pypilot.cli.main import main

TEXT = """\
# A service.
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: web, image: i}]}
---
# And one that stays out.
{apiVersion: v1, kind: Pod, metadata: {name: out}, spec: {hostNetwork: true, containers: [{name: a, image: i}]}}
"""


def run(*arguments, stdin=""):
    return CliRunner().invoke(main, ["inject", *map(str, arguments)], input=stdin)


def test_documents_without_pods_keep_their_text():
    result = run("-f", "-", stdin=TEXT)
    assert result.exit_code == 0, result.output
    before, after = TEXT.split("---\n"), result.stdout.split("---\n")
    assert (after[0], after[2]) == (before[0], before[2])
    pod = yaml.safe_load(after[1])
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["istio-init", "istio-proxy"]


def test_the_mesh_is_read_from_files(tmp_path):
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(
        "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {name: p, namespace: shop}\n"
        "spec: {environmentVariables: {A: b}}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: pypilot-injection, namespace: istio-system}\n"
        "data: {injection: 'values: {network: n1}'}\n"
    )
    file = tmp_path / "in.yaml"
    file.write_text(TEXT)
    flags = ("--config", mesh, "--proxy-image", "mine:1", "--native-sidecars", "false")
    result = run("-f", file, *flags)
    assert result.exit_code == 0, result.output
    pod = list(yaml.safe_load_all(result.stdout))[1]
    proxy = pod["spec"]["containers"][-1]
    assert (proxy["name"], proxy["image"]) == ("istio-proxy", "mine:1")
    assert {"name": "A", "value": "b"} in proxy["env"]
    assert {"name": "ISTIO_META_NETWORK", "value": "n1"} in proxy["env"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not valid YAML"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: p, annotations: {status.sidecar.istio.io/port: x}}}", "Pod p: "),
        ("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: x}}", "spec.containers"),
    ],
)
def test_what_cannot_be_injected_is_said(text, said):
    result = run("-f", "-", stdin=text)
    assert result.exit_code == 1
    assert said in result.stderr


def test_a_missing_file_is_said():
    assert "No such file" in run("-f", "/nowhere/x.yaml").stderr


def test_the_result_goes_through_unchanged():
    once = run("-f", "-", stdin=TEXT).stdout
    twice = run("-f", "-", stdin=once).stdout
    assert list(yaml.safe_load_all(twice)) == list(yaml.safe_load_all(once))


class _Ready(http.server.BaseHTTPRequestHandler):
    answers: list[int] = []

    def do_GET(self):
        self.send_response(self.answers.pop(0))
        self.end_headers()

    def log_message(self, *_):
        pass


def test_wait_returns_once_the_proxy_is_ready():
    _Ready.answers = [503, 503, 200]
    server = http.server.HTTPServer(("127.0.0.1", 0), _Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/healthz/ready"
    try:
        flags = ["--periodMillis", "1", "--requestTimeoutMillis", "60000"]
        assert CliRunner().invoke(main, ["wait", "--url", url, *flags]).exit_code == 0
        assert _Ready.answers == []
    finally:
        server.shutdown()
        server.server_close()
    result = CliRunner().invoke(main, ["wait", "--url", url, "--timeoutSeconds", "0"])
    assert result.exit_code == 1
    assert "not ready" in result.stderr


def test_istios_name_of_the_init_step_is_known():
    result = CliRunner().invoke(main, ["istio-iptables", "-p", "15001", "-x", "", "-d", "15090", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "15090" in result.stdout
