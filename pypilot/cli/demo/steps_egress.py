"""Step 4: a sidecar-type Envoy, its client's traffic intercepted by iptables inside a network namespace.

Two namespaces: in one lives the client with its sidecar, the other plays the world outside. The client opens plain
TCP connections to addresses of the world; that they pass through Envoy is iptables' doing alone.
"""

import os
from collections.abc import Awaitable, Callable

from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.certificates import Authority
from pypilot.cli.demo.checks import Checks, settled
from pypilot.cli.demo.clients import Answer, NoAnswerError, get_from
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.demo.netns import NamespaceError, NetworkNamespace, join, namespace, why_unavailable
from pypilot.cli.demo.relay import relay
from pypilot.cli.demo.stage import NAMESPACE, Stage

SIDECAR_UID = 1337
OUTBOUND_PORT = 15001
UNREGISTERED_PORT = 9000

CLIENT_ADDRESS = "10.77.0.2"
WORLD_ADDRESS = "10.77.0.1"
PARTNER = ("api.partner.example", "203.0.113.10")
BANK = ("api.bank.example", "203.0.113.20")
"""Host name and address, as in `deploy/demo-changes`; addresses of a documentation range, only in our namespace."""

SIDECAR = NodeIdentity("sidecar", CLIENT_ADDRESS, "client", NAMESPACE, {"app": "client"})
BANK_AUTHORITY_PATH = "/etc/demo/bank-ca.pem"

ALLOW_ANY, REGISTRY_ONLY = "mode: ALLOW_ANY\n", "mode: REGISTRY_ONLY\n"


async def egress(stage: Stage, checks: Checks) -> None:
    """Step 4."""
    if stage.options.interception == "off":
        checks.leave_out("switched off")
        return
    if (reason := why_unavailable()) and stage.options.interception == "auto":
        checks.leave_out(reason)
        return
    checks.doing("making namespaces and iptables rules")
    try:
        client, world = await _namespaces(stage)
    except NamespaceError as error:
        if stage.options.interception == "on":
            raise
        checks.leave_out(f"this machine refuses: {error}")
        return
    bank = await _world(stage, world)
    sidecar = await _sidecar(stage, client)
    await _policies(stage, checks, client, sidecar)
    await _tls_origination(stage, checks, client, sidecar, bank)
    command = " ".join(("ip netns exec", client.name, "curl -i -H 'Host:"))
    stage.hints.append(f"{command} {PARTNER[0]}' http://{PARTNER[1]}/")
    stage.hints.append(f"{command} {BANK[0]}' http://{BANK[1]}/")


async def _namespaces(stage: Stage) -> tuple[NetworkNamespace, NetworkNamespace]:
    client = await stage.stack.enter_async_context(namespace(f"pypilot-{os.getpid()}-client"))
    world = await stage.stack.enter_async_context(namespace(f"pypilot-{os.getpid()}-world"))
    outside = [f"{WORLD_ADDRESS}/24", f"{PARTNER[1]}/32", f"{BANK[1]}/32"]
    await join(client, f"{CLIENT_ADDRESS}/24", world, outside)
    await client.redirect_outbound(to_port=OUTBOUND_PORT, except_uid=SIDECAR_UID)
    return client, world


async def _world(stage: Stage, world: NetworkNamespace) -> Backend:
    """The hosts outside the mesh; returns the bank's TLS server."""
    authority = Authority("bank authority")
    bank = Backend("bank", "tls", certificate=authority.issue(BANK[0]))
    for backend, address, port in (
        (Backend("partner"), PARTNER[1], 80),
        (Backend("partner", "unregistered"), PARTNER[1], UNREGISTERED_PORT),
        (Backend("bank", redirect_to=f"https://{BANK[0]}"), BANK[1], 80),
        (bank, BANK[1], 443),
    ):
        await stage.stack.enter_async_context(serve(backend, world.listen(address, port)))
    trusted = stage.work.directory("sidecar") / "bank-ca.pem"
    authority.write(trusted)
    stage.work.replacements[BANK_AUTHORITY_PATH] = str(trusted)
    return bank


async def _sidecar(stage: Stage, client: NetworkNamespace) -> Envoy:
    directory = stage.work.directory("sidecar")
    socket = directory / "xds.sock"
    await stage.stack.enter_async_context(relay(socket, *stage.control_plane.grpc))
    sidecar = await stage.stack.enter_async_context(
        Envoy.start(
            ads_bootstrap(SIDECAR, socket, protocol=stage.options.ads),
            directory,
            binary=stage.options.envoy,
            name="sidecar",
            uid=SIDECAR_UID,
            prefix=client.prefix,
        )
    )
    await sidecar.wait_live()
    stage.sidecars.append(sidecar)
    return sidecar


Ask = Callable[[], Awaitable[Answer]]


async def _policies(stage: Stage, checks: Checks, client: NetworkNamespace, sidecar: Envoy) -> None:
    """ALLOW_ANY, REGISTRY_ONLY, and a host that gets registered."""

    def partner() -> Awaitable[Answer]:
        return get_from(client, PARTNER[1], 80, host=PARTNER[0])

    def unregistered_port() -> Awaitable[Answer]:
        return get_from(client, PARTNER[1], UNREGISTERED_PORT, host=PARTNER[0])

    checks.doing("ALLOW_ANY")
    answer, log = await _logged(sidecar, partner, _to(PARTNER[0]))
    checks.equal("ALLOW_ANY, unknown host", "200 PassthroughCluster allow_any", f"{answer.status} {log}")
    answer, log = await _logged(sidecar, unregistered_port, _to_port(UNREGISTERED_PORT))
    checks.equal("ALLOW_ANY, unknown TCP port", "200 PassthroughCluster", f"{answer.status} {log}")

    checks.doing("REGISTRY_ONLY")
    stage.work.edit("mesh.yaml", {ALLOW_ANY: REGISTRY_ONLY})
    await settled(partner, lambda a: a.status != 200, ignoring=NoAnswerError)
    answer, log = await _logged(sidecar, partner, _to(PARTNER[0]))
    checks.equal("REGISTRY_ONLY, unknown host", "502 - block_all", f"{answer.status} {log}")
    since = sidecar.access_log.mark()
    try:
        refused = f"status {(await unregistered_port()).status}"
    except NoAnswerError:
        refused = "closed"
    entry = await sidecar.access_log.wait_for(_to_port(UNREGISTERED_PORT), since=since) or {}
    seen = f"{refused} {entry.get('upstream_cluster')} {entry.get('response_flags')}"
    checks.equal("REGISTRY_ONLY, unknown TCP port", "closed BlackHoleCluster UH", seen)

    checks.doing("adding a ServiceEntry")
    stage.work.add("partner.yaml")
    await settled(partner, lambda a: a.status == 200, ignoring=NoAnswerError)
    answer, log = await _logged(sidecar, partner, _to(PARTNER[0]))
    expected = f"200 outbound|80||{PARTNER[0]} default"
    checks.equal("ServiceEntry added", expected, f"{answer.status} {log}")


async def _tls_origination(
    stage: Stage, checks: Checks, client: NetworkNamespace, sidecar: Envoy, bank: Backend
) -> None:
    """Plain HTTP from the client, TLS from its sidecar."""

    def plain() -> Awaitable[Answer]:
        return get_from(client, BANK[1], 80, host=BANK[0])

    checks.doing("TLS origination")
    stage.work.add("bank.yaml")
    answer = await settled(plain, lambda a: a.status == 301, ignoring=NoAnswerError)
    seen = f"{answer.status} {answer.headers.get('location')}"
    checks.equal("host that wants TLS, plain HTTP", f"301 https://{BANK[0]}/", seen)
    stage.work.add("bank-tls.yaml")
    await settled(plain, lambda a: a.status == 200, ignoring=NoAnswerError)
    answer, log = await _logged(sidecar, plain, _to(BANK[0]))
    cluster = f"outbound|443|tls-origination|{BANK[0]}"
    checks.equal("the same with TLS origination", f"200 {cluster}", f"{answer.status} {log.split(' ')[0]}")
    seen = f"tls {answer.seen.get('tls')}, server name {bank.server_names[-1] if bank.server_names else None}"
    checks.equal("what the host saw", f"tls True, server name {BANK[0]}", seen)


def _to(host: str) -> Callable[[dict[str, object]], bool]:
    return lambda entry: entry.get("authority") == host


def _to_port(port: int) -> Callable[[dict[str, object]], bool]:
    return lambda entry: str(entry.get("downstream_local_address", "")).endswith(f":{port}")


async def _logged(sidecar: Envoy, ask: Ask, wanted: Callable[[dict[str, object]], bool]) -> tuple[Answer, str]:
    """One answer, and what the sidecar logged of it: cluster and route."""
    since = sidecar.access_log.mark()
    answer = await ask()
    entry = await sidecar.access_log.wait_for(wanted, since=since) or {}
    words = (entry.get("upstream_cluster"), entry.get("route_name"))
    return answer, " ".join(str(w or "-") for w in words).removesuffix(" -")
