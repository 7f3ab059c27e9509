"""What resolv.conf says: who is asked about names that are not known here, and what clients append to names. Pure."""

from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """Its parts that matter here."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def _address(text: str) -> str:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return text


def read_resolv_conf(text: str) -> ResolvConf:
    """As resolvers read it: of several `search` and `domain` lines the last holds, and wrong lines are skipped."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for line in text.splitlines():
        match line.split():
            case ["nameserver", found, *_] if _address(found):
                servers.append(found)
            case ["search", *names]:
                search = tuple(name.lower().rstrip(".") for name in names if name.rstrip("."))
            case ["domain", name, *_]:
                search = (name.lower().rstrip("."),) if name.rstrip(".") else ()
    return ResolvConf(tuple(dict.fromkeys(servers)), search)
