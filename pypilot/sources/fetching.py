"""HTTP GET of small documents, as of token issuers' keys; not from addresses that only machines may ask (RA-016).

Redirects are followed a little way, each checked like the first address.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pypilot.sources.key_sets import FetchError

_LARGEST: Final = 1 << 20
_REDIRECTS: Final = 3
_REDIRECT: Final = (301, 302, 303, 307, 308)
LINK_LOCAL: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text) for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
)
"""Link-local addresses, and those at which clouds tell a machine its credentials."""


class _Checked(AbstractResolver):
    """A resolver that names no address that must not be asked."""

    def __init__(self, inner: AbstractResolver, check: Callable[[str], None]) -> None:
        self._inner = inner
        self._check = check

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            self._check(one["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


class Fetcher:
    """Call it with a URL and seconds. Close it."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        blocked: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        """`tls` is whom to trust, by default the CAs of the system; `blocked` are not asked beside `LINK_LOCAL`."""
        self._tls = tls
        self._blocked = (*LINK_LOCAL, *blocked)
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str, seconds: float) -> bytes:
        """The document.

        Raises:
            FetchError: there is none, it is too large, or its address must not be asked.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._get(url)
        except TimeoutError:
            raise FetchError(f"{_shown(url)} did not answer within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"{_shown(url)}: {_reason(error)}") from None

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

    async def _get(self, url: str) -> bytes:
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise FetchError(f"{_shown(url)} is not an http or https URL")
            self._check_literal(parts.hostname)
            async with self._opened().get(url, allow_redirects=False) as answer:
                if answer.status in _REDIRECT and "location" in answer.headers:
                    url = urljoin(url, answer.headers["location"])
                    continue
                if answer.status != 200:
                    raise FetchError(f"{_shown(url)} answered {answer.status}")
                body = await answer.content.read(_LARGEST + 1)
                while len(body) <= _LARGEST and (more := await answer.content.read(_LARGEST + 1 - len(body))):
                    body += more
                if len(body) > _LARGEST:
                    raise FetchError(f"{_shown(url)} is larger than {_LARGEST} bytes")
                return body
        raise FetchError(f"{_shown(url)}: more than {_REDIRECTS} redirects")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = _Checked(aiohttp.ThreadedResolver(), self._check)
            context: Any = self._tls if self._tls is not None else True
            connector = aiohttp.TCPConnector(resolver=resolver, ssl=context, limit_per_host=4, use_dns_cache=False)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _check_literal(self, host: str) -> None:
        try:
            ip_address(host)
        except ValueError:
            return
        self._check(host)

    def _check(self, address: str) -> None:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)
        plain = mapped if mapped is not None else found
        if any(plain in network for network in self._blocked if network.version == plain.version):
            raise FetchError(f"the address {plain} must not be asked")


def _shown(url: str) -> str:
    """Without user, password and query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.os_error.strerror or error.os_error}"
    return type(error).__name__
