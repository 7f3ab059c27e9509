"""pypilot in the cluster under test: installed with deploy/kubernetes as anybody would, and removed again.

Only the names of the images differ, by an overlay in a temporary directory. What was in the cluster before is not
touched: a cluster in which there is an `istio-system` already is none for this test.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from e2e.cluster.kubectl import Data, Kubectl, KubectlError
from pypilot.cli.demo.certificates import Authority, Certificate

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
IMAGE_FIELDS = KUBERNETES / "base" / "image-fields.yaml"
SYSTEM, SHOP = "istio-system", "shop"
OFFICE, STREET = "office", "street"
"""Namespaces with and without sidecars."""
HOST = "shop.example.com"
CREDENTIAL = "shop-credential"
NAMESPACES = (SYSTEM, SHOP, OFFICE, STREET)
ROOT_CONFIG_MAP = "istio-ca-root-cert"
CONTROL_PLANE, GATEWAY = "pypilot", "istio-ingressgateway"
PILOTS = "app=istiod,istio=pilot"
GATEWAYS = "istio=ingressgateway"
APPLICATIONS = ("web-v1", "web-v2")


class UnavailableError(Exception):
    """There is no cluster to test in; says why in one line."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster, and how to reach it; from the environment.

    PYPILOT_E2E_KUBECONFIG: names the cluster; nothing else does, so that nobody's cluster is used by chance.
    PYPILOT_E2E_IN: command prefix that runs a program where nodes can be reached, kubectl included; may be empty.
    PYPILOT_E2E_LOAD: command that loads images, `{tar}` for a file that `docker save` wrote; empty: they can be pulled.
    PYPILOT_E2E_IMAGE, PYPILOT_E2E_SIDECAR_IMAGE: names of the images.
    """

    kubeconfig: str
    prefix: tuple[str, ...]
    load: tuple[str, ...]
    image: str
    sidecar_image: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Place":
        """What the variables say.

        Raises:
            UnavailableError: they name no cluster.
        """
        kubeconfig = environment.get("PYPILOT_E2E_KUBECONFIG", "")
        if not kubeconfig:
            raise UnavailableError("needs a cluster: name its kubeconfig in PYPILOT_E2E_KUBECONFIG")
        return cls(
            kubeconfig,
            tuple(shlex.split(environment.get("PYPILOT_E2E_IN", ""))),
            tuple(shlex.split(environment.get("PYPILOT_E2E_LOAD", ""))),
            environment.get("PYPILOT_E2E_IMAGE") or "pypilot:0.1.0",
            environment.get("PYPILOT_E2E_SIDECAR_IMAGE") or "pypilot-sidecar:0.1.0",
        )

    @property
    def images(self) -> Mapping[str, str]:
        """Names in the manifests, and those here."""
        return {"pypilot": self.image, "pypilot-sidecar": self.sidecar_image}


@dataclass(slots=True)
class Installation:
    """pypilot, its gateway and the sample application."""

    place: Place
    kubectl: Kubectl
    directory: Path
    """For what is written for it."""
    authority: Authority = field(default_factory=lambda: Authority("e2e"))
    _definitions: bool = False
    """Whether the kinds were defined by us."""
    roots_before: frozenset[str] = frozenset()
    """Namespaces that had a root before."""

    # -- coming and going ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See that there is a cluster, and room in it.

        Raises:
            UnavailableError: there is not.
        """
        try:
            for namespace in NAMESPACES:
                if self.kubectl.exists("namespace", namespace):
                    raise UnavailableError(f"needs a cluster without a namespace {namespace}: this one has it")
            self.roots_before = self.published_roots()
        except (KubectlError, OSError, subprocess.SubprocessError) as error:
            raise UnavailableError(f"needs a cluster that answers: {error}") from None

    def load_images(self) -> None:
        """Bring the images there, if there is a command for it."""
        if not self.place.load:
            return
        tar = self.directory / "images.tar"
        saved = ["docker", "save", "--output", str(tar), *self.place.images.values()]
        for command in (saved, [part.replace("{tar}", str(tar)) for part in self.place.load]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        tar.unlink()

    def install(self) -> None:
        """Everything, and wait until it runs."""
        self._definitions = not self.kubectl.exists("customresourcedefinition", "virtualservices.networking.istio.io")
        if self._definitions:
            self.kubectl("apply", "--server-side", "--field-manager=pypilot", "-k", str(KUBERNETES / "crds"))
            self.kubectl("wait", "--for=condition=Established", "crd", "--selector=app.kubernetes.io/part-of=pypilot")
        self.kubectl("apply", "-k", str(self._overlay("system", KUBERNETES)))
        self.kubectl.rolled_out(SYSTEM, CONTROL_PLANE, GATEWAY)
        self.authority.write(self.root)
        self.show(self.authority.issue(HOST))
        self.kubectl("apply", "-k", str(self._overlay("shop", KUBERNETES / "samples")))
        self.kubectl.rolled_out(SHOP, *APPLICATIONS)

    def remove(self) -> None:
        """All of it, and what it made; nothing is left to remove the second time."""
        self.kubectl("delete", "namespace", SHOP, OFFICE, STREET, "--ignore-not-found", "--wait")
        self.kubectl("delete", "--ignore-not-found", "--wait", "-k", str(self._overlay("system", KUBERNETES)))
        if self._definitions:
            self.kubectl("delete", "--ignore-not-found", "--wait", "-k", str(KUBERNETES / "crds"))
        for namespace in self.published_roots() - self.roots_before:
            self.kubectl("delete", "configmap", ROOT_CONFIG_MAP, "--namespace", namespace)

    def published_roots(self) -> frozenset[str]:
        """The namespaces that have the root's ConfigMap."""
        selector = f"--field-selector=metadata.name={ROOT_CONFIG_MAP}"
        names = "--output=jsonpath={.items[*].metadata.namespace}"
        return frozenset(self.kubectl("get", "configmaps", "--all-namespaces", selector, names).split())

    def _overlay(self, name: str, source: Path) -> Path:
        """A kustomization that only names other images."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        images = []
        for own, given in self.place.images.items():
            given_name, _, tag = given.rpartition(":")
            images.append({"name": own, "newName": given_name, "newTag": tag})
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(source, directory.resolve())],
            "images": images,
            "configurations": [IMAGE_FIELDS.name],
        }
        shutil.copy(IMAGE_FIELDS, directory)
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return directory

    # -- using it -----------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """The authority of the gateway's certificates."""
        return self.directory / "root.crt"

    def show(self, certificate: Certificate) -> None:
        """Let the gateway have this certificate."""
        self.kubectl.apply(yaml.safe_load(certificate.secret_yaml(CREDENTIAL, SYSTEM)))

    def send(self, v1: int, v2: int) -> None:
        """Edit the weights."""
        service: Data = self.kubectl.get("virtualservice", SHOP, "shop")
        for destination, weight in zip(service["spec"]["http"][0]["route"], (v1, v2), strict=True):
            destination["weight"] = weight
        self.kubectl.patch("virtualservice", SHOP, "shop", {"spec": {"http": service["spec"]["http"]}})

    def address(self, port: str) -> str:
        """Where a port of the gateway's Service is on a node."""
        service = self.kubectl.get("service", SYSTEM, GATEWAY)
        node_port = next(p["nodePort"] for p in service["spec"]["ports"] if p["name"] == port)
        # A pod of the gateway runs there; externalTrafficPolicy does not matter then.
        pod = self.kubectl.items("pods", SYSTEM, GATEWAYS)[0]
        host = str(pod["status"]["hostIP"])
        return f"[{host}]:{node_port}" if ":" in host else f"{host}:{node_port}"

    def leader(self) -> str:
        """The pod that holds the Lease; empty if none does."""
        holder = self.kubectl.get("lease", SYSTEM, "pypilot-leader")["spec"].get("holderIdentity") or ""
        return str(holder).partition("_")[0]

    def diagnosis(self) -> str:
        """What one would look at first when something is wrong."""
        parts = []
        for arguments in (
            ("get", "pods,services,endpointslices", "--all-namespaces", "--output=wide"),
            *(("describe", "pods", "--namespace", n) for n in NAMESPACES),
            *(("get", "events", "--namespace", n, "--sort-by=.lastTimestamp") for n in NAMESPACES),
            *(("logs", "--namespace", SYSTEM, "--selector", s, "--tail=200", "--prefix") for s in (PILOTS, GATEWAYS)),
            ("logs", "--namespace", OFFICE, "--selector", "app", "--container=istio-proxy", "--tail=60", "--prefix"),
        ):
            try:
                text = self.kubectl(*arguments)
            except (KubectlError, OSError, subprocess.SubprocessError) as error:
                text = str(error)
            parts.append(f"$ kubectl {' '.join(arguments)}\n{text}")
        return "\n".join(parts)
