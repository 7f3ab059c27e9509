"""What somebody else does when a proxy comes, goes, or says how its workload is. Whoever that is, is not known here.

Istio's agent reports health on the proxy's own stream, as a request for a type of its own (WE-007).
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol

from pypilot.wire.node import Proxy
from pypilot.xds.auth import Identity

HEALTH: Final = "type.googleapis.com/istio.v1.HealthInformation"
ReportHealth = Callable[[bool, str], None]
"""(healthy, why not)"""


class Attendance(Protocol):
    """Takes note of proxies."""

    async def arrived(self, proxy: Proxy, identity: Identity | None, at: datetime) -> Any:
        """Something that stands for the connection; None if it is of no interest.

        Raises:
            DeniedError: the proxy may not connect.
        """

    def left(self, present: Any) -> None:
        """The connection has ended."""

    def reported(self, present: Any, healthy: bool, message: str) -> None:
        """The workload's agent said how it is."""
