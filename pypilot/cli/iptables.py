"""`pypilot iptables`: the init step that sends a pod's traffic to its Envoy. Flags are those of Istio's (INJ-006).

Most of them may be given as variables too, by the names that Istio's init container reads: injection hands the pod's
`proxyMetadata` on to it (IPT-008). A flag wins.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from pypilot.proxy.capture import kernel
from pypilot.proxy.capture.plan import (
    ALL,
    Capture,
    CaptureError,
    Dns,
    name_servers,
    read_loopback,
    read_ports,
    read_ports_or_all,
    read_ranges,
    read_ranges_or_all,
    read_words_or_all,
    seconds_of,
    words,
)
from pypilot.proxy.capture.validation import ValidationError, validate

_FAILED: Final = 1
_NOT_VALID: Final = 126
"""By which whoever repairs pods knows that it was the validation that failed (IPT-009)."""
_F = TypeVar("_F", bound=Callable[..., Any])


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
        loopback=read_loopback(given["host_ipv4_loopback_cidr"], "--host-ipv4-loopback-cidr"),
    )


def _resolv_conf() -> str:
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError as error:
        raise CaptureError(f"--redirect-dns: /etc/resolv.conf cannot be read: {error.strerror}") from None


def _flag(*names: str, env: str = "", **more: Any) -> Callable[[_F], _F]:
    """An option and its variables: its long name in capitals, and others."""
    long = next(name for name in names if name.startswith("--"))
    variables = [long.removeprefix("--").replace("-", "_").upper(), *env.split()]
    return click.option(*names, envvar=variables, **more)


def _switch(name: str, text: str, env: str = "") -> Callable[[_F], _F]:
    return _flag(name, env=env, is_flag=True, help=text)


def _text(*names: str, default: str = "", text: str, env: str = "") -> Callable[[_F], _F]:
    return _flag(*names, env=env, default=default, show_default=bool(default), help=text)


def _port(*names: str, default: int, text: str) -> Callable[[_F], _F]:
    return _flag(*names, default=default, type=click.IntRange(1, 65535), show_default=True, help=text)


@click.command()
@click.option("-p", "--envoy-port", default=15001, show_default=True, help="Where Envoy takes outbound connections.")
@_port("-z", "--inbound-capture-port", default=15006, text="Where it takes inbound ones.")
@_port("-e", "--inbound-tunnel-port", default=15008, text="HBONE; never redirected.")
@_text("-u", "--proxy-uid", default="1337", text="User ids of Envoy, separated by commas.")
@_text("-g", "--proxy-gid", text="Group ids of Envoy; the user ids unless given.")
@_flag(
    "-m",
    "--istio-inbound-interception-mode",
    type=click.Choice(["REDIRECT", "TPROXY"]),
    default="REDIRECT",
    show_default=True,
    help="How inbound connections come to Envoy; TPROXY keeps the caller's address.",
)
@_text("-b", "--istio-inbound-ports", default="*", text="Inbound ports; empty: none.")
@_text("-d", "--istio-local-exclude-ports", text="Inbound ports that are left alone.")
@_text("-i", "--istio-service-cidr", default="*", text="Outbound ranges; empty: none.")
@_text("-x", "--istio-service-exclude-cidr", text="Outbound ranges that are left alone.")
@_text("-q", "--istio-outbound-ports", text="Outbound ports to capture wherever they go.")
@_text("-o", "--istio-local-outbound-ports-exclude", text="Outbound ports that are left alone.")
@_text("-c", "--istio-exclude-interfaces", text="Interfaces that are left alone.")
@_text("-k", "--kube-virt-interfaces", text="Interfaces of virtual machines: theirs is outbound.")
@_switch("--redirect-dns", "Send DNS to the agent.", env="ISTIO_META_DNS_CAPTURE")
@_switch("--capture-all-dns", "All DNS, not only that to the servers of /etc/resolv.conf.")
@_switch("--drop-invalid", "Drop packets that belong to no connection.", env="INVALID_DROP")
@_text(
    "--owner-groups-include",
    default="*",
    text="Groups whose traffic is outbound.",
    env="ISTIO_OUTBOUND_OWNER_GROUPS",
)
@_text("--owner-groups-exclude", text="Groups whose traffic is left alone.", env="ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE")
@_text(
    "--host-ipv4-loopback-cidr",
    default="127.0.0.1/32",
    text="What is local in IPv4.",
    env="ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
)
@click.option("--ipv6/--no-ipv6", default=None, help="Rule IPv6 too; by default if there is an address of it.")
@_flag("-n", "--dry-run", is_flag=True, help="Print the rules and do nothing.")
@_switch("--cleanup-only", "Take all rules away.")
@_switch("--skip-rule-apply", "Leave the rules as they are; with --run-validation.")
@_switch("--run-validation", "See by a connection whether capture works; run this as Envoy's user.")
@_port("--iptables-probe-port", default=15002, text="Port of that connection.")
@_text("--probe-timeout", default="5s", text="How long it may take.")
@click.option("--log_output_level", hidden=True, expose_value=False, help="Of Istio's; nothing is logged here.")
@click.option("--log_as_json", is_flag=True, hidden=True, expose_value=False, help="Likewise.")
@click.option("--force-apply", is_flag=True, hidden=True, expose_value=False, help="Always so.")
@click.option("--reconcile", is_flag=True, hidden=True, expose_value=False, help="Always so.")
@click.option("--dual-stack", is_flag=True, hidden=True, expose_value=False, help="Seen by the addresses.")
def iptables(ipv6: bool | None, dry_run: bool, cleanup_only: bool, **given: Any) -> None:
    """Send this network namespace's TCP traffic to Envoy. May be repeated: the last call holds."""
    try:
        capture = _capture(given)
        seconds = seconds_of(given["probe_timeout"], "--probe-timeout")
        with_ipv6 = kernel.has_ipv6() if ipv6 is None else ipv6
        if dry_run:
            click.echo(kernel.preview(capture, with_ipv6), nl=False)
            return
        if cleanup_only:
            kernel.remove(with_ipv6)
        elif not given["skip_rule_apply"]:
            kernel.apply(capture, with_ipv6)
        if given["run_validation"]:
            validate(capture, given["iptables_probe_port"], seconds, with_ipv6)
    except ValidationError as error:
        click.echo(f"pypilot iptables: the pod's traffic is not captured: {error}", err=True)
        sys.exit(_NOT_VALID)
    except (CaptureError, kernel.KernelError) as error:
        click.echo(f"pypilot iptables: {error}", err=True)
        sys.exit(_FAILED)
