"""What an API server can answer instead of what was asked for. None of these ever contains a credential."""

import msgspec


class ApiError(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""


class UnreachableError(Exception):
    """No answer, or one that broke off."""


class CredentialsError(Exception):
    """The kubeconfig or the service account cannot be used; says why."""


class BrokenStreamError(Exception):
    """Something that cannot have been meant: the answer was cut or mixed up on its way."""


class ExpiredError(Exception):
    """410 Gone: the resourceVersion is too old; only a new list helps."""


FAILURES = (ApiError, UnreachableError, CredentialsError, BrokenStreamError)
"""What passes, if one tries again later."""


class Status(msgspec.Struct):
    """The part of `meta/v1.Status` that says what went wrong."""

    code: int = 0
    message: str = ""
    reason: str = ""
