"""etcd, kube-apiserver and, where wanted, kube-controller-manager on loopback. Each is ended by its own pid."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.kube.binaries import Binaries, find_binaries
from e2e.kube.pki import ISSUER, Pki

START_SECONDS = 120.0
_ATTEMPTS = 3


class StartError(Exception):
    """A program did not start; holds the end of its log."""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """A Kubernetes without nodes."""

    def __init__(self, binaries: Binaries, directory: Path) -> None:
        self.directory = directory
        self.pki = Pki(directory / "pki")
        self.port = 0
        self._binaries = binaries
        self._etcd_port = 0
        self._etcd_data = directory
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.pki.issue("server", hosts=("127.0.0.1", "localhost", "kubernetes.default.svc"))
        self.pki.issue("admin", groups=("system:masters",))
        self._tls = ssl.create_default_context(cafile=str(self.pki.directory / "ca.crt"))
        self._tls.load_cert_chain(self.pki.directory / "admin.crt", self.pki.directory / "admin.key")

    # -- programs -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start etcd and the API server; returns when it is ready."""
        for attempt in range(_ATTEMPTS):
            self._etcd_port, self.port = free_port(), free_port()
            try:
                self._etcd_data = self.directory / f"etcd-{attempt}"
                self._start_etcd()
                self.start_apiserver()
                return
            except StartError:
                self.stop()
                if attempt == _ATTEMPTS - 1:
                    raise

    def stop(self) -> None:
        """End all programs, the last started first."""
        for name in reversed(list(self._children)):
            self._end(name, signal.SIGTERM)

    def kill_apiserver(self) -> None:
        """As a crash would."""
        self._end("kube-apiserver", signal.SIGKILL)

    def back_up(self) -> Path:
        """Keep what etcd holds now. Everything stands still meanwhile."""
        copy = self.directory / "etcd-backup"
        self._end("kube-apiserver", signal.SIGTERM)
        self._end("etcd", signal.SIGTERM)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._etcd_data, copy)
        self._start_etcd()
        self.start_apiserver()
        return copy

    def restore(self, copy: Path) -> None:
        """Put etcd back to what it held then, as one does after a disaster; its revisions start from there again."""
        self._end("kube-apiserver", signal.SIGKILL)
        self._end("etcd", signal.SIGKILL)
        shutil.rmtree(self._etcd_data)
        shutil.copytree(copy, self._etcd_data)
        self._start_etcd()
        self.start_apiserver()

    def _start_etcd(self) -> None:
        url = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{free_port()}"
        self._run(
            "etcd",
            self._binaries.etcd,
            f"--data-dir={self._etcd_data}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        self._wait("etcd", f"{url}/health")

    def start_apiserver(self) -> None:
        """Start the API server, again on the same port after it was killed."""
        pki = self.pki.directory
        self._run(
            "kube-apiserver",
            self._binaries.kube_apiserver,
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.2",  # loopback is refused for the Service `kubernetes`
            f"--secure-port={self.port}",
            f"--tls-cert-file={pki / 'server.crt'}",
            f"--tls-private-key-file={pki / 'server.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--authorization-mode=RBAC",
            # Without a controller manager no namespace has its default service account.
            "--disable-admission-plugins=ServiceAccount",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
        )
        self._wait("kube-apiserver", f"https://127.0.0.1:{self.port}/readyz")

    @property
    def has_controller_manager(self) -> bool:
        """False with assets that bring none."""
        return self._binaries.kube_controller_manager is not None

    def start_controller_manager(self) -> None:
        """Start the controllers that a test needs: slices, namespaces and service accounts."""
        program = self._binaries.kube_controller_manager
        assert program is not None
        self._run(
            "kube-controller-manager",
            program,
            f"--kubeconfig={self.kubeconfig()}",
            f"--service-account-private-key-file={self.pki.directory / 'sa.key'}",
            f"--root-ca-file={self.pki.directory / 'ca.crt'}",
            "--use-service-account-credentials=false",
            "--leader-elect=false",
            "--controllers=serviceaccount-controller,endpointslice-controller,namespace-controller",
            "--secure-port=0",
            "--concurrent-service-endpoint-syncs=2",
        )

    def stop_controller_manager(self) -> None:
        """End the controllers."""
        self._end("kube-controller-manager", signal.SIGTERM)

    def _run(self, name: str, program: Path, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                [program, *arguments], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    def _end(self, name: str, how: signal.Signals) -> None:
        child = self._children.pop(name, None)
        if child is None:
            return
        child.send_signal(how)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _wait(self, name: str, url: str) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._children[name].poll() is not None:
                break
            try:
                with urllib.request.urlopen(url, timeout=5, context=self._tls if url[4] == "s" else None):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        log = (self.directory / f"{name}.log").read_text(errors="replace")
        raise StartError(f"{name} did not start:\n{log[-2000:]}")

    # -- access -------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address of the API server."""
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, server: str = "", user: dict[str, Any] | None = None, name: str = "admin") -> Path:
        """A kubeconfig file; by default of the administrator, straight to the API server."""
        pki = self.pki.directory
        credentials = user or {"client-certificate": str(pki / "admin.crt"), "client-key": str(pki / "admin.key")}
        cluster = {"server": server or self.url}
        if cluster["server"].startswith("https"):
            cluster["certificate-authority"] = str(pki / "ca.crt")
        path = self.directory / f"{name}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": cluster}],
            "users": [{"name": "user", "user": credentials}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "user"}}],
            "current-context": "e2e",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    @property
    def tls(self) -> ssl.SSLContext:
        """The administrator's TLS."""
        return self._tls

    # -- etcd ---------------------------------------------------------------------------------------------------------

    def compact(self) -> int:
        """Compact etcd at its present revision: whoever stopped watching before that must list again."""
        status = self._etcd("maintenance/status", {})
        revision = int(status["header"]["revision"])
        self._etcd("kv/compaction", {"revision": revision, "physical": True})
        return revision

    def _etcd(self, method: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._etcd_port}/v3/{method}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    """A cluster until the block ends.

    Raises:
        UnavailableError: there are no programs for one.
    """
    made = Cluster(find_binaries(os.environ), directory)
    try:
        made.start()
        yield made
    finally:
        made.stop()
