"""Applications whose pods get sidecars by the label of their namespace, and one beside them without.

They are plain Deployments: nothing in them knows of a mesh. What a pod's application or proxy sees is asked in the pod.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from e2e.cluster.installation import OFFICE, STREET, Installation
from e2e.cluster.kubectl import Data, Kubectl, eventually, is_ready
from e2e.cluster.load import Load, anywhere

SERVER, CLIENT, GUEST, STRANGER = "server", "client", "guest", "stranger"
PROXY: Final = "istio-proxy"
LIFETIME: Final = "1m"
"""Of the certificates of server and client: they are renewed about twice a minute."""

_ASK: Final = """
import http.client, json, sys
from urllib.parse import urlsplit
url = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=30)
try:
    connection.request("GET", url.path or "/", headers={"Host": sys.argv[2] or url.hostname})
    answer = connection.getresponse()
    print(json.dumps([answer.status, answer.read().decode()]))
except (OSError, http.client.HTTPException) as error:
    print(json.dumps([0, type(error).__name__]))
"""
_MEMORY: Final = """
import json, pathlib
found = {}
for path in pathlib.Path("/proc").glob("[0-9]*"):
    lines = dict(line.partition(":")[::2] for line in (path / "status").read_text().splitlines())
    if path.name == "1" or lines["Name"].strip() == "envoy":
        found["agent" if path.name == "1" else "envoy"] = int(lines["VmRSS"].split()[0])
print(json.dumps(found))
"""


def application(name: str, namespace: str, image: str, annotations: dict[str, str] | None = None) -> list[Data]:
    """A Deployment of the image's `echo`, with its account and Service."""
    metadata = {"name": name, "namespace": namespace}
    container = {
        "name": "app",
        "image": image,
        "args": ["echo", f"--name={name}", "--version=v1"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "startupProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 10},
        "livenessProbe": {"httpGet": {"path": "/", "port": 8080}, "timeoutSeconds": 10, "failureThreshold": 6},
        # Lets callers learn that the pod is going before it is gone.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    template = {
        "metadata": {"labels": {"app": name, "version": "v1"}, "annotations": annotations or {}},
        "spec": {"serviceAccountName": name, "containers": [container]},
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": template,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    ]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request; status 0 and the error's name if nothing did."""

    status: int
    body: str

    @property
    def caller(self) -> str:
        """Who asked, by the word of the server's proxy."""
        found: str = json.loads(self.body)["headers"].get("x-forwarded-client-cert", "")
        return found


@dataclass(frozen=True, slots=True)
class Office:
    """The applications, running."""

    installation: Installation

    @property
    def kubectl(self) -> Kubectl:
        return self.installation.kubectl

    def open(self) -> None:
        """All of it, and wait until it is ready. Mutual TLS is demanded from the beginning."""
        eventually("the webhook has its authority", self._has_authority)
        labels = {
            OFFICE: {"istio-injection": "enabled", "pod-security.kubernetes.io/enforce": "privileged"},
            STREET: {},
        }
        for name, given in labels.items():
            self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": given}})
        self.kubectl.apply(policy("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}))
        image = self.installation.place.image
        short = {"proxy.istio.io/config": json.dumps({"proxyMetadata": {"SECRET_TTL": LIFETIME}})}
        for name in (SERVER, CLIENT, GUEST):
            self.kubectl.apply(*application(name, OFFICE, image, None if name == GUEST else short))
        self.kubectl.apply(*application(STRANGER, STREET, image))
        self.kubectl.rolled_out(OFFICE, SERVER, CLIENT, GUEST)
        self.kubectl.rolled_out(STREET, STRANGER)

    def _has_authority(self) -> bool:
        found = json.loads(
            self.kubectl("get", "mutatingwebhookconfiguration", "istio-sidecar-injector", "--output=json")
        )
        return all(hook["clientConfig"].get("caBundle") for hook in found["webhooks"])

    # -- pods ---------------------------------------------------------------------------------------------------------

    def pods(self, name: str) -> list[Data]:
        """Those of an application that are ready."""
        return [pod for pod in self.kubectl.items("pods", OFFICE, f"app={name}") if is_ready(pod)]

    def pod(self, name: str) -> Data:
        """The only pod of an application, once it is."""
        found: list[Data] = eventually(f"one pod of {name}", lambda: len(p := self.pods(name)) == 1 and p)
        return found[0]

    def in_pod(self, pod: str, container: str, program: str, *arguments: str) -> Any:
        """What a Python program prints there, as JSON."""
        words = ("--container", container, "--", "python", "-c", program, *arguments)
        return json.loads(self.kubectl("exec", "--namespace", _space(pod), pod, *words))

    def admin(self, pod: str, path: str) -> Any:
        """What the pod's Envoy says on its admin port."""
        program = (
            "import sys, urllib.request as u; print(u.urlopen('http://127.0.0.1:15000' + sys.argv[1]).read().decode())"
        )
        return self.in_pod(pod, PROXY, program, path)

    def serials(self, pod: str) -> set[str]:
        """Of the certificates that the pod's Envoy shows to others."""
        shown = self.admin(pod, "/certs")["certificates"]
        return {chain["serial_number"] for entry in shown for chain in entry.get("cert_chain", ())[:1]}

    def memory(self, pod: str) -> dict[str, int]:
        """Resident KiB of `agent` and `envoy`."""
        found: dict[str, int] = self.in_pod(pod, PROXY, _MEMORY)
        return found

    # -- requests -----------------------------------------------------------------------------------------------------

    def ask(self, who: str, url: str = f"http://{SERVER}.{OFFICE}/", host: str = "") -> Answer:
        """A request of an application's pod."""
        return Answer(*self.in_pod(f"deployment/{who}", "app", _ASK, url, host))

    def load(self, *, fresh: bool = False) -> Load:
        """Requests of the client to the server."""
        talk = self.kubectl.command(
            "exec", "--stdin", "--namespace", OFFICE, f"deployment/{CLIENT}", "--container=app", "--"
        )
        name = f"{SERVER}.{OFFICE}"
        return Load(talk, f"{name}:80", name, None, fresh=fresh, program=anywhere())


def _space(pod: str) -> str:
    return STREET if STRANGER in pod else OFFICE


def policy(kind: str, name: str, spec: Data) -> Data:
    """An object of Istio's security API in the namespace with sidecars."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": OFFICE},
        "spec": spec,
    }


def identity(account: str) -> str:
    """The SPIFFE id of an account there."""
    return f"spiffe://cluster.local/ns/{OFFICE}/sa/{account}"


def seconds_until_ready(pod: Data) -> float:
    """From its creation on, as the API server dates both: in whole seconds."""
    ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    times = (datetime.fromisoformat(t) for t in (ready["lastTransitionTime"], pod["metadata"]["creationTimestamp"]))
    return (next(times) - next(times)).total_seconds()
