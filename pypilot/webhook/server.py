"""The webhooks' HTTPS application. Every request has an answer: 200 with a verdict, or what is wrong."""

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from pypilot.settings import CompliancePolicy
from pypilot.webhook.injector import PATH, Injector, NotReadyError
from pypilot.webhook.review import Check, MalformedError, answer, check_object
from pypilot.xds.tls import TlsMaterial, TlsSource, load_certificate, server_context

_Verdict = Callable[[Any, web.Request], dict[str, Any]]
_LARGEST_REVIEW = 8 << 20
"""Bytes; an object in etcd has at most 1.5 MiB, and a review has the old and the new one."""


def webhook_app(check: Check = check_object, injector: Injector | None = None) -> web.Application:
    """`POST /validate`, and `POST /inject` with what may follow it if there is an injector."""

    def validate(review: Any, _: web.Request) -> dict[str, Any]:
        return answer(review, check)

    def inject(review: Any, request: web.Request) -> dict[str, Any]:
        assert injector is not None
        return injector.answer(review, request.match_info.get("tail", ""))

    app = web.Application(client_max_size=_LARGEST_REVIEW)
    app.add_routes([web.post("/validate", _reviewed(validate))])
    if injector is not None:
        app.add_routes([web.post(PATH + tail, _reviewed(inject)) for tail in ("", "/{tail:.*}")])
    return app


def _reviewed(verdict: _Verdict) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            review = msgspec.json.decode(await request.read())
            return web.json_response(verdict(review, request))
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"the body is not JSON: {error}\n")
        except RecursionError:
            return web.Response(status=400, text="the body is nested too deeply\n")
        except MalformedError as error:
            return web.Response(status=400, text=f"{error}\n")
        except NotReadyError:
            return web.Response(status=503, text="the mesh is not known yet\n")

    return handle


class WebhookTls:
    """A TLS context that shows the source's present certificate; none is asked of clients."""

    def __init__(self, source: TlsSource, compliance: CompliancePolicy = "none") -> None:
        """Read for the first time.

        Raises:
            ValueError, OSError: as `TlsSource.read`.
        """
        self._source = source
        self._stamp = source.stamp()
        key, chain, _ = source.read()
        self.context: ssl.SSLContext = server_context(TlsMaterial(key, chain, None), ("http/1.1",), compliance)

    def follow(self) -> None:
        """Take up another certificate, if there is one; keys of one kind take each other's place in a context.

        Raises:
            ValueError, OSError: it cannot be used; the last one stays.
        """
        stamp = self._source.stamp()
        if stamp != self._stamp:
            key, chain, _ = self._source.read()
            load_certificate(self.context, key, chain)
            self._stamp = stamp
