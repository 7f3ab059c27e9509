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


UNTOUCHED = (
    b"\r\n# Lines of Windows.\r\napiVersion: v1\r\nkind: Service\r\nmetadata: {name: w}\r\n",
    b"---\n\n",
    b"---  # a marker with words\n# only words\n",
    b'--- \n{"kind":\t"X", "items": [1,  2] }\n\n\n',
    '---\nkind: ConfigMap\napiVersion: v1\ndata: {a: "gr\u00fc\u00df", b: 0x1F, c: 1e3, d: &x [1], e: *x}\n'.encode(),
    b"---\nkind: ConfigMap\napiVersion: v1\ndata:\n  a: |\n    --- x\n    ---\n    y",
)


def injected_bytes(data):
    return CliRunner().invoke(main, ["inject", "-f", "-"], input=data).stdout_bytes


def test_what_is_not_injected_into_keeps_every_byte():
    assert injected_bytes(b"".join(UNTOUCHED)) == b"".join(UNTOUCHED)
    pod = b"---\n{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: i}]}}\n"
    before, after = UNTOUCHED[:3], UNTOUCHED[3:]
    result = injected_bytes(b"".join((*before, pod, *after)))
    assert result.startswith(b"".join(before) + b"---\napiVersion: v1\n")
    assert result.endswith(b"\n" + b"".join(after))
    assert result.count(b"name: istio-proxy") == 1


def test_documents_that_only_an_end_marker_parts():
    pod = b"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: i}]}}\n...\n"
    made = list(yaml.safe_load_all(injected_bytes(pod + pod)))
    assert [len(each["spec"]["initContainers"]) for each in made] == [2, 2]


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


class _Drained(http.server.BaseHTTPRequestHandler):
    asked: list[tuple[str, str]] = []

    def do_POST(self):
        self.asked.append((self.command, self.path))
        self.send_response(200 if self.path == "/drain" else 404)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_):
        pass


def test_request_asks_the_proxy_of_this_pod():
    """INJ-005: by which a native sidecar begins to drain when its pod ends."""
    _Drained.asked = []
    server = http.server.HTTPServer(("127.0.0.1", 0), _Drained)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = f"--debug-port={server.server_address[1]}"
    try:
        done = CliRunner().invoke(main, ["request", port, "POST", "drain"])
        assert (done.exit_code, done.output) == (0, "OK\n")
        done = CliRunner().invoke(main, ["request", port, "POST", "/other", "body"])
        assert (done.exit_code, "HTTP status 404" in done.output) == (1, True)
        assert _Drained.asked == [("POST", "/drain"), ("POST", "/other")]
    finally:
        server.shutdown()
        server.server_close()
    done = CliRunner().invoke(main, ["request", port, "POST", "drain"])
    assert (done.exit_code, "refused" in done.output) == (1, True)


def test_istios_name_of_the_init_step_is_known():
    result = CliRunner().invoke(main, ["istio-iptables", "-p", "15001", "-x", "", "-d", "15090", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "15090" in result.stdout
