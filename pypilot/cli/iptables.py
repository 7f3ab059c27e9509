"""`pypilot iptables`: the init step that sends a pod's traffic to its Envoy. Flags are those of Istio's (INJ-006)."""

import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import click

from pypilot.proxy.capture import kernel
from pypilot.proxy.capture.plan import (
    ALL,
    Capture,
    CaptureError,
    Dns,
    name_servers,
    read_ports,
    read_ports_or_all,
    read_ranges,
    read_ranges_or_all,
    read_words_or_all,
    words,
)

_FAILED = 1


def _capture(given: dict[str, Any]) -> Capture:
    dns = None
    if given["redirect_dns"]:
        servers = ALL if given["capture_all_dns"] else name_servers(_resolv_conf())
        dns = Dns(servers) if servers else None
    return Capture(
        proxy_port=given["envoy_port"],
        inbound_port=given["inbound_capture_port"],
        tunnel_port=given["inbound_tunnel_port"],
        uids=words(given["proxy_uid"]),
        gids=words(given["proxy_gid"] or given["proxy_uid"]),
        mode=given["istio_inbound_interception_mode"],
        inbound_ports=read_ports_or_all(given["istio_inbound_ports"], "-b"),
        exclude_inbound_ports=read_ports(given["istio_local_exclude_ports"], "-d"),
        outbound_ranges=read_ranges_or_all(given["istio_service_cidr"], "-i"),
        exclude_outbound_ranges=read_ranges(given["istio_service_exclude_cidr"], "-x"),
        outbound_ports=read_ports(given["istio_outbound_ports"], "-q"),
        exclude_outbound_ports=read_ports(given["istio_local_outbound_ports_exclude"], "-o"),
        exclude_interfaces=words(given["istio_exclude_interfaces"]),
        virtual_interfaces=words(given["kube_virt_interfaces"]),
        dns=dns,
        drop_invalid=given["drop_invalid"],
        include_groups=read_words_or_all(given["owner_groups_include"]),
        exclude_groups=words(given["owner_groups_exclude"]),
        loopback=IPv4Network(given["host_ipv4_loopback_cidr"]),
    )


def _resolv_conf() -> str:
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError as error:
        raise CaptureError(f"--redirect-dns: /etc/resolv.conf cannot be read: {error.strerror}") from None


@click.command()
@click.option("-p", "--envoy-port", default=15001, show_default=True, help="Where Envoy takes outbound connections.")
@click.option("-z", "--inbound-capture-port", default=15006, show_default=True, help="Where it takes inbound ones.")
@click.option("-e", "--inbound-tunnel-port", default=15008, show_default=True, help="HBONE; never redirected.")
@click.option("-u", "--proxy-uid", default="1337", show_default=True, help="User ids of Envoy, separated by commas.")
@click.option("-g", "--proxy-gid", default="", help="Group ids of Envoy; the user ids unless given.")
@click.option(
    "-m",
    "--istio-inbound-interception-mode",
    type=click.Choice(["REDIRECT", "TPROXY"]),
    default="REDIRECT",
    show_default=True,
    help="How inbound connections come to Envoy; TPROXY keeps the caller's address.",
)
@click.option("-b", "--istio-inbound-ports", default="*", show_default=True, help="Inbound ports; empty: none.")
@click.option("-d", "--istio-local-exclude-ports", default="", help="Inbound ports that are left alone.")
@click.option("-i", "--istio-service-cidr", default="*", show_default=True, help="Outbound ranges; empty: none.")
@click.option("-x", "--istio-service-exclude-cidr", default="", help="Outbound ranges that are left alone.")
@click.option("-q", "--istio-outbound-ports", default="", help="Outbound ports to capture wherever they go.")
@click.option("-o", "--istio-local-outbound-ports-exclude", default="", help="Outbound ports that are left alone.")
@click.option("-c", "--istio-exclude-interfaces", default="", help="Interfaces that are left alone.")
@click.option("-k", "--kube-virt-interfaces", default="", help="Interfaces of virtual machines: theirs is outbound.")
@click.option("--redirect-dns", is_flag=True, help="Send DNS to the agent.")
@click.option("--capture-all-dns", is_flag=True, help="All DNS, not only that to the servers of /etc/resolv.conf.")
@click.option("--drop-invalid", is_flag=True, help="Drop packets that belong to no connection.")
@click.option("--owner-groups-include", default="*", show_default=True, help="Groups whose traffic is outbound.")
@click.option("--owner-groups-exclude", default="", help="Groups whose traffic is left alone.")
@click.option("--host-ipv4-loopback-cidr", default="127.0.0.1/32", show_default=True, help="What is local in IPv4.")
@click.option("--ipv6/--no-ipv6", default=None, help="Rule IPv6 too; by default if there is an address of it.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the rules and do nothing.")
@click.option("--cleanup-only", is_flag=True, help="Take all rules away.")
def iptables(ipv6: bool | None, dry_run: bool, cleanup_only: bool, **given: Any) -> None:
    """Send this network namespace's TCP traffic to Envoy. May be repeated: the last call holds."""
    try:
        capture = _capture(given)
        with_ipv6 = kernel.has_ipv6() if ipv6 is None else ipv6
        if dry_run:
            click.echo(kernel.preview(capture, with_ipv6), nl=False)
        elif cleanup_only:
            kernel.remove(with_ipv6)
        else:
            kernel.apply(capture, with_ipv6)
    except (CaptureError, ValueError, kernel.KernelError) as error:
        click.echo(f"pypilot iptables: {error}", err=True)
        sys.exit(_FAILED)
