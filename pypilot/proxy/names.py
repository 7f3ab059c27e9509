"""DNS of a pod, wired: the control plane's table, the pod's resolv.conf, and the server (BOOT-002, NDS-005)."""

import errno
from pathlib import Path
from typing import Final

from pypilot.proxy import log
from pypilot.proxy.dns.forward import PORT, Forwarder
from pypilot.proxy.dns.resolv_conf import read_resolv_conf
from pypilot.proxy.dns.server import DnsServer
from pypilot.proxy.dns.table import Place, make_table
from pypilot.proxy.settings import DnsSettings
from pypilot.wire.pb.ads_pb2 import NameTable

_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


class Names:
    """`start`, then `take` tables, then `stop`."""

    def __init__(self, settings: DnsSettings, namespace: str, domain: str, resolv_conf: Path = _RESOLV_CONF) -> None:
        self._settings = settings
        self._namespace, self._domain = namespace, domain
        self._resolv_conf = resolv_conf
        self._server: DnsServer | None = None
        self._place = Place(namespace, domain)

    @property
    def known(self) -> bool:
        """There is a table."""
        return self._server is not None and self._server.table is not None

    @property
    def known_names(self) -> dict[str, tuple[str, ...]] | None:
        """Every name and its addresses; None before there is a table."""
        table = self._server.table if self._server is not None else None
        if table is None:
            return None
        return {name: tuple(str(a) for a in (*found.v4, *found.v6)) for name, found in table.names.items()}

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where names are answered."""
        return self._server.addresses if self._server is not None else []

    async def start(self) -> None:
        """Read resolv.conf and listen.

        Raises:
            OSError: resolv.conf cannot be read, or an address cannot be had.
        """
        said = read_resolv_conf(self._resolv_conf.read_text())
        settings = self._settings
        servers = tuple((host, PORT) for host in said.servers)
        self._place = Place.of(self._namespace, self._domain, said.search)
        forwarder = Forwarder(servers, settings.upstream_seconds, settings.upstream_at_once)
        self._server = DnsServer(forwarder)
        try:
            await self._server.start(settings.addresses)
        except OSError as error:
            if settings.named or error.errno not in _NO_IPV6:
                raise
            await self._server.start(settings.addresses[:1])
        where = [f"{host}:{port}" for host, port in self._server.addresses]
        log.info("DNS", listening=where, resolvers=list(said.servers), search=list(said.search))

    async def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            await self._server.stop()

    def take(self, table: NameTable) -> None:
        """Answer from this table from now on."""
        assert self._server is not None
        self._server.table = make_table(table.table, self._place)
        log.info("names", count=len(table.table))
