"""Whose token is it? Known by the issuer's keys in a file, where there is no API server to ask (XAUTH-001).

The file is a JWKS (RFC 7517) and is followed. A token must name an audience of ours, a service account and its end;
only signatures by public keys count. Nothing of a token reaches a message.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jwt
import structlog

from pypilot.kube.token_review import Bearer, TokenRefusedError, TokenUnknownError

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
AUDIENCE: Final = "istio-ca"
_LONGEST_TOKEN: Final = 16 * 1024
_LEEWAY_SECONDS: Final = 10.0


class TokenKeys:
    """Reviews tokens for one audience."""

    def __init__(
        self, path: Path, audience: str = AUDIENCE, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = path
        self._audience = audience
        self._now = now
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._trouble = ""
        self._log = structlog.get_logger("pypilot.security")

    async def review(self, token: str) -> Bearer:
        """Whose token it is.

        Raises:
            TokenRefusedError: nobody's, or it is not for this audience.
            TokenUnknownError: there are no keys.
        """
        if len(token) > _LONGEST_TOKEN:
            raise TokenRefusedError("the token is too long")
        self._follow()
        if not self._keys:
            raise TokenUnknownError("there are no keys to verify tokens by")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise TokenRefusedError("the token is not a JWT") from None
        kid, algorithm = header.get("kid"), header.get("alg")
        for key in self._keys:
            if (kid is None or key.key_id in (None, kid)) and key.algorithm_name == algorithm:
                claims = self._verified(token, key)
                if claims is not None:
                    return self._bearer(claims)
        raise TokenRefusedError("the token is signed by none of the keys")

    def _verified(self, token: str, key: jwt.PyJWK) -> dict[str, Any] | None:
        """The claims; None if another key signed it. Times are looked at by our own clock."""
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "sub", "aud"]}
        try:
            claims: dict[str, Any] = jwt.decode(token, key, [key.algorithm_name], options, audience=self._audience)
        except jwt.InvalidSignatureError:
            return None
        except jwt.InvalidAudienceError:
            raise TokenRefusedError(f"the token is not for audience {self._audience}") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenRefusedError(f"the token has no {error.claim}") from None
        except jwt.PyJWTError:
            raise TokenRefusedError("the token is not well formed") from None
        return claims

    def _bearer(self, claims: dict[str, Any]) -> Bearer:
        now = self._now().timestamp()
        expiry, begin = _number(claims["exp"]), _number(claims.get("nbf", 0))
        if expiry is None or begin is None:
            raise TokenRefusedError("the token is not well formed")
        if now >= expiry:
            raise TokenRefusedError("the token has expired")
        if now + _LEEWAY_SECONDS < begin:
            raise TokenRefusedError("the token is not valid yet")
        kubernetes = claims.get("kubernetes.io")
        pod = kubernetes.get("pod") if isinstance(kubernetes, dict) else None
        name = pod.get("name") if isinstance(pod, dict) else ""
        return Bearer(str(claims["sub"]), pod=name if isinstance(name, str) else "")

    def _follow(self) -> None:
        """Read the file if it changed; one that cannot be read leaves the keys as they were."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp == self._stamp:
                return
            self._keys = _read(self._path.read_bytes())
        except OSError as error:
            self._say(f"{self._path}: {error.strerror}")
        except ValueError as error:
            self._stamp = stamp
            self._say(f"{self._path}: {error}")
        else:
            self._stamp, self._trouble = stamp, ""
            self._log.info("keys of tokens", file=str(self._path), count=len(self._keys))

    def _say(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._log.error("the keys of tokens cannot be used", reason=text, kept=len(self._keys))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _read(content: bytes) -> tuple[jwt.PyJWK, ...]:
    """The public keys that can be used.

    Raises:
        ValueError: there are none.
    """
    try:
        keys = tuple(k for k in jwt.PyJWKSet.from_json(content.decode()).keys if k.algorithm_name in ALGORITHMS)
    except (jwt.PyJWTError, UnicodeDecodeError, AttributeError, TypeError, KeyError, ValueError):
        raise ValueError("not a JWKS with keys that can be used") from None
    if not keys:
        raise ValueError("no key of an asymmetric algorithm")
    return keys
