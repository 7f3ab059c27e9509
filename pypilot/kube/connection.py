"""The way to an API server: configuration and authentication by kubernetes_asyncio, requests as raw bytes.

The only module that imports kubernetes_asyncio, and only when a connection is made (it costs 40 MB). Its generated
models are never used. Errors come out as `ApiError`, `UnreachableError` or `CredentialsError`; none contains a token.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp
import msgspec

from pypilot.kube.errors import ApiError, CredentialsError, Status, UnreachableError

Parameters = Mapping[str, str]
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_OPEN_SECONDS = 10.0
_LONGEST_RETRY_AFTER = 120.0


class Answer(NamedTuple):
    """A complete response."""

    content_type: str
    body: bytes


class Connection(Protocol):
    """What the source needs of an API server."""

    async def get(self, path: str, parameters: Parameters, accept: str, seconds: float) -> Answer:
        """One request.

        Raises:
            ApiError, UnreachableError, CredentialsError: it failed.
        """
        ...

    def stream(self, path: str, parameters: Parameters, accept: str, silence: float) -> "Chunks":
        """The pieces of a response as they come; entering and reading raise like `get`, also after long `silence`."""
        ...

    async def close(self) -> None:
        """End all requests."""
        ...


class WritingConnection(Connection, Protocol):
    """What those need who also change things."""

    async def send(
        self, method: str, path: str, body: object, content_type: str = JSON, seconds: float = 30.0
    ) -> Answer:
        """POST, PUT, PATCH or DELETE; `body` is plain data, sent as JSON.

        Raises:
            ApiError: the server refused.
            UnreachableError, CredentialsError: there was no answer; what was asked for may have been done or not.
        """
        ...


Chunks = AbstractAsyncContextManager[AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Access:
    """Which cluster, and as whom."""

    kubeconfig: Path | None = None
    """None: the service account of the pod that this process runs in."""
    context: str = ""
    """Of the kubeconfig; empty: its current one."""


class _Client(NamedTuple):
    """One state of the credentials. The library is not typed in what is used here."""

    configuration: Any
    transport: Any
    identity: tuple[object, ...]
    """Everything that needs a new TLS session when it changes."""


def _identity(configuration: Any) -> tuple[object, ...]:
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    return (
        configuration.host,
        configuration.proxy,
        configuration.verify_ssl,
        configuration.tls_server_name,
        *(Path(name).read_bytes() if name else None for name in files),
    )


class KubernetesConnection:
    """A `Connection` whose credentials are read again when the server no longer takes them."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: _Client | None = None
        self._loading = asyncio.Lock()

    async def get(self, path: str, parameters: Parameters, accept: str, seconds: float) -> Answer:
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=_OPEN_SECONDS)
        async with self._request("GET", path, parameters, {"Accept": accept}, limits) as response:
            return Answer(response.content_type, await response.read())

    async def send(
        self, method: str, path: str, body: object, content_type: str = JSON, seconds: float = 30.0
    ) -> Answer:
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=_OPEN_SECONDS)
        headers = {"Accept": JSON, "Content-Type": content_type}
        async with self._request(method, path, {}, headers, limits, body) as response:
            return Answer(response.content_type, await response.read())

    @asynccontextmanager
    async def stream(
        self, path: str, parameters: Parameters, accept: str, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_OPEN_SECONDS, sock_read=silence)
        async with self._request("GET", path, parameters, {"Accept": accept}, limits) as response:
            yield response.content.iter_any()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.transport.close()
            self._client = None

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        parameters: Parameters,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        body: object = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        client = await self._current()
        try:
            response = await self._send(client, method, path, parameters, headers, limits, body)
            if response.status == 401:
                response.release()
                client = await self._reload(client)
                response = await self._send(client, method, path, parameters, headers, limits, body)
            async with response:
                if response.status not in (200, 201, 202):
                    raise await _error_of(response)
                yield response
        except aiohttp.ClientConnectorCertificateError as error:
            await self._reload(client)
            raise UnreachableError(str(error)) from error
        except TimeoutError as error:
            raise UnreachableError("no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(str(error) or type(error).__name__) from error

    async def _send(
        self,
        client: _Client,
        method: str,
        path: str,
        parameters: Parameters,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        body: object,
    ) -> aiohttp.ClientResponse:
        # Compressed answers cost both sides more time than they save between machines of one network.
        sent = {**headers, "Accept-Encoding": "identity", "User-Agent": "pypilot"}
        try:
            settings = await client.configuration.auth_settings()
        except Exception as error:  # it reads the token file again, now and then
            raise CredentialsError(f"the token cannot be read: {error}") from error
        for setting in settings.values():
            sent[setting["key"]] = setting["value"]
        try:
            response: aiohttp.ClientResponse = await client.transport.request(
                method,
                client.configuration.host + path,
                headers=sent,
                query_params=list(parameters.items()),
                body=body,
                _preload_content=False,
                _request_timeout=limits,
            )
        except RuntimeError as error:  # "Session is closed": somebody else got new credentials meanwhile
            raise UnreachableError(str(error)) from error
        return response

    async def _current(self) -> _Client:
        if self._client is None:
            async with self._loading:
                if self._client is None:
                    self._client = await self._load(None)
        return self._client

    async def _reload(self, stale: _Client) -> _Client:
        """Read the credentials again, unless somebody else just did."""
        async with self._loading:
            if self._client is stale or self._client is None:
                self._client = await self._load(stale)
            return self._client

    async def _load(self, old: _Client | None) -> _Client:
        try:
            client = await load_client(self._access, old)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the library raises whatever parsing a kubeconfig or running a plugin raises
            where = str(self._access.kubeconfig or "the service account")
            raise CredentialsError(f"{where} cannot be used: {error}") from error
        if old is not None and client.transport is not old.transport:
            await old.transport.close()
        return client


async def load_client(access: Access, old: _Client | None) -> _Client:
    """Read the credentials; connections are kept if only the token changed."""
    from kubernetes_asyncio import config
    from kubernetes_asyncio.client.configuration import Configuration
    from kubernetes_asyncio.client.rest import RESTClientObject

    configuration: Any = Configuration()
    configuration.connection_pool_maxsize = 0  # one watch holds one connection: a limit would be a deadlock
    # Certificates of many clusters lack the key identifiers that Python 3.13 asks for.
    configuration.disable_strict_ssl_verification = True
    if access.kubeconfig is None:
        load: Any = config.load_incluster_config
        load(client_configuration=configuration)
    else:
        await config.load_kube_config(
            config_file=str(access.kubeconfig),
            context=access.context or None,
            client_configuration=configuration,
            persist_config=False,
        )
    identity = _identity(configuration)
    if old is not None and old.identity == identity:
        return _Client(configuration, old.transport, identity)
    try:
        return _Client(configuration, RESTClientObject(configuration), identity)
    except ssl.SSLError as error:
        raise CredentialsError(f"certificate or key: {error.reason}") from error


async def _error_of(response: aiohttp.ClientResponse) -> ApiError:
    retry_after = response.headers.get("Retry-After", "")
    seconds = min(float(retry_after), _LONGEST_RETRY_AFTER) if retry_after.isdecimal() else None
    reason = response.reason or ""
    try:
        status = msgspec.json.decode(await response.read(), type=Status)
        reason = status.message or status.reason or reason
    except (msgspec.DecodeError, aiohttp.ClientError, TimeoutError):
        pass  # an answer of something in between, without a Status
    return ApiError(response.status, reason, seconds)
