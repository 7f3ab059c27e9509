"""Bearer tokens in the `authorization` metadata: the second way to prove who one is (XAUTH-001).

Who reviews tokens is given; nothing here knows an API server's address, and no token is kept or logged.
"""

from collections.abc import Callable
from typing import Final, Protocol

from pypilot.kube.token_review import Bearer, TokenRefusedError, TokenUnknownError, parse_service_account
from pypilot.xds.auth import DeniedError, Identity, Peer

_SCHEME: Final = "bearer "


class TokenReviewer(Protocol):
    """Knows whose a token is."""

    async def review(self, token: str) -> Bearer:
        """Whose it is.

        Raises:
            TokenRefusedError: nobody's, or it is not for us.
            TokenUnknownError: it cannot be known now.
        """
        ...


class TokenAuthenticator:
    """A service account's token."""

    def __init__(self, reviews: TokenReviewer, trust_domain: Callable[[], str]) -> None:
        """`trust_domain` is the mesh's, at that moment."""
        self._reviews = reviews
        self._trust_domain = trust_domain

    async def authenticate(self, peer: Peer) -> Identity | None:
        header = (peer.metadata or {}).get("authorization", "")
        if not header:
            return None
        if not header.lower().startswith(_SCHEME):
            raise DeniedError("UNAUTHENTICATED", "the authorization header is not a bearer token")
        try:
            bearer = await self._reviews.review(header[len(_SCHEME) :].strip())
        except TokenRefusedError as error:
            raise DeniedError("UNAUTHENTICATED", str(error)) from None
        except TokenUnknownError as error:
            raise DeniedError("UNAVAILABLE", str(error)) from None
        account = parse_service_account(bearer.username)
        if account is None:
            raise DeniedError("UNAUTHENTICATED", f"{bearer.username!r} is not a service account")
        return Identity(self._trust_domain(), *account, pod=bearer.pod)
