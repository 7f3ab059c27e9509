"""Envoy's admin interface, asked by plain HTTP. Blocks: call it in a thread."""

import http.client
import re
from dataclasses import dataclass
from typing import Final

_SECONDS: Final = 5.0
_STATS: Final = r"^(cluster_manager\.cds|listener_manager\.lds)\.update_(success|rejected)$"
_LINE: Final = re.compile(r"^(\S+): (\d+)$", re.MULTILINE)


class AdminError(Exception):
    """Envoy does not answer, or not well."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The interface at a port of loopback."""

    port: int
    host: str = "127.0.0.1"

    def ask(self, path: str, method: str = "GET", seconds: float = _SECONDS) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            AdminError: there is no answer.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise AdminError(str(error) or type(error).__name__) from None
        finally:
            connection.close()

    def why_not_ready(self) -> str:
        """Empty once Envoy is live with configuration of the control plane's."""
        try:
            status, body = self.ask(f"/stats?filter={_STATS.replace('|', '%7C')}")
            if status != 200:
                return f"Envoy's statistics: {status}"
            counts = {name: int(value) for name, value in _LINE.findall(body.decode())}
            for part, name in (("cluster_manager.cds", "clusters"), ("listener_manager.lds", "listeners")):
                if not counts.get(f"{part}.update_success") and not counts.get(f"{part}.update_rejected"):
                    return f"no {name} yet"
            status, body = self.ask("/ready")
            return "" if status == 200 else f"Envoy is {body.decode(errors='replace').strip() or status}"
        except AdminError as error:
            return f"Envoy does not answer: {error}"
