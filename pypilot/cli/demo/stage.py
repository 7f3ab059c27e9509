"""Sets the scene: working copy, certificates, backends, control plane and gateway, each in its place.

Only brings the parts together; what happens on the stage is in the `steps_*` modules.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pypilot.cli.demo.addresses import Reservation, reserve
from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.bootstrap import AdsProtocol, NodeIdentity, ads_bootstrap
from pypilot.cli.demo.certificates import Authority, Certificate
from pypilot.cli.demo.clients import HttpClient, SteadyClient
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.demo.workspace import Workspace, find_yaml, workspace

HOST = "shop.example"
NAMESPACE = "demo"
SECRET_NAME = "shop-certificate"  # noqa: S105 - a name, no secret
SECRET_FILE = f"{SECRET_NAME}.yaml"
AUTHORITY_FILE = "authority.pem"
SLOW_SECONDS = 5.0

GATEWAY_HTTPS = ("127.0.0.1", 18443)
GATEWAY_HTTP = ("127.0.0.1", 18080)
BACKENDS = (
    (("127.0.0.11", 18081), Backend("shop", "v1")),
    (("127.0.0.12", 18082), Backend("shop", "v2")),
    (("127.0.0.13", 18083), Backend("slow", delay=SLOW_SECONDS)),
)
"""Addresses as they stand in `deploy/demo`."""

# Its address is only its identity: no pod of the YAML has it.
GATEWAY = NodeIdentity("router", "127.0.0.2", "demo-gateway", NAMESPACE, {"istio": "demo-gateway"})


@dataclass(frozen=True, slots=True)
class Options:
    """How to run the demo."""

    envoy: Path
    ads: AdsProtocol = "DELTA_GRPC"
    interception: str = "auto"
    """`auto`: where the machine can; `on`: it must; `off`: never."""


@dataclass(slots=True)
class Stage:
    """Everything that the steps use."""

    options: Options
    work: Workspace
    authority: Authority
    control_plane: ControlPlane
    gateway: Envoy
    https_address: tuple[str, int]
    http_address: tuple[str, int]
    client: HttpClient
    certificate: Certificate
    """What the gateway should show now."""
    stack: AsyncExitStack
    """Closed when the demo ends: steps enter here what must live on."""
    sidecars: list[Envoy] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    """Lines for `--keep`: things to try by hand."""

    def url(self, path: str = "/") -> str:
        """A URL of the HTTPS server."""
        return f"https://{HOST}:{self.https_address[1]}{path}"

    def steady_client(self) -> SteadyClient:
        """A client that never pauses."""
        return SteadyClient(self.https_address, HOST, self.authority.client_context())

    def install(self, certificate: Certificate) -> None:
        """Write a pair into the served Secret."""
        self.work.write(SECRET_FILE, certificate.secret_yaml(SECRET_NAME, NAMESPACE))

    @property
    def envoys(self) -> list[Envoy]:
        """All Envoys that have been started."""
        return [self.gateway, *self.sidecars]


def replacements_for(reservations: list[Reservation]) -> dict[str, str]:
    """What differs between the YAML's addresses and those that were free here."""
    changed = {}
    for reservation in reservations:
        for wished, got in zip(reservation.wished, reservation.address, strict=True):
            if wished != got:
                changed[str(wished)] = str(got)
    return changed


def replaced(address: tuple[str, int], replacements: dict[str, str]) -> tuple[str, int]:
    """Where an address of the YAML really is."""
    host, port = address
    return replacements.get(host, host), int(replacements.get(str(port), port))


@asynccontextmanager
async def set_stage(options: Options) -> AsyncIterator[Stage]:
    """Start everything that all steps need, and end it with the block."""
    async with AsyncExitStack() as stack:
        places = [reserve(*address) for address, _ in BACKENDS]
        doors = [reserve(*GATEWAY_HTTPS), reserve(*GATEWAY_HTTP)]
        for place in (*places, *doors):
            stack.callback(place.close)
        for door in doors:
            door.leave_to_others()
        replacements = replacements_for([*places, *doors])
        work = stack.enter_context(workspace(find_yaml("demo"), find_yaml("demo-changes"), replacements))
        authority = Authority("pypilot demo authority")
        authority.write(work.root / AUTHORITY_FILE)
        certificate = authority.issue(HOST)
        for place, (_, backend) in zip(places, BACKENDS, strict=True):
            await stack.enter_async_context(serve(backend, place.socket))
        work.write(SECRET_FILE, certificate.secret_yaml(SECRET_NAME, NAMESPACE))
        control_plane = await stack.enter_async_context(
            ControlPlane.start(work.config, work.directory("control-plane"))
        )
        await control_plane.wait_ready()
        bootstrap = ads_bootstrap(GATEWAY, control_plane.grpc, protocol=options.ads)
        gateway = await stack.enter_async_context(
            Envoy.start(bootstrap, work.directory("gateway"), binary=options.envoy, name="gateway", concurrency=2)
        )
        await gateway.wait_live()
        client = await stack.enter_async_context(HttpClient.to(GATEWAY_HTTPS[0], authority.client_context()))
        yield Stage(
            options=options,
            work=work,
            authority=authority,
            control_plane=control_plane,
            gateway=gateway,
            https_address=replaced(GATEWAY_HTTPS, replacements),
            http_address=replaced(GATEWAY_HTTP, replacements),
            client=client,
            certificate=certificate,
            stack=stack,
        )
