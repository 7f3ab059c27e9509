"""Health of a workload that no kubelet asks (WE-007): `readinessProbe` of its ProxyConfig, told to the control plane.

Only changes are told: enough successes in a row, or failures.
"""

import asyncio
import subprocess
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pypilot.proxy import log
from pypilot.proxy.probes import Target, probe
from pypilot.proxy.values import AgentError, Fields

_GOOD: Final = range(200, 400)
_ACTIONS: Final = ("httpGet", "tcpSocket", "grpc", "exec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is asked, and how often; the defaults are Istio's."""

    said: Mapping[str, Any]
    host: str = ""
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    successes: int = 1
    failures: int = 1


def read_probe(said: Mapping[str, Any], name: str = "readinessProbe") -> Probe:
    """The probe that ProxyConfig states.

    Raises:
        AgentError: it cannot be asked.
    """
    actions = [a for a in _ACTIONS if said.get(a) is not None]
    if len(actions) != 1:
        raise AgentError(f"{name}: want one of {', '.join(_ACTIONS)}")
    fields = Fields(said, name)
    action = fields.below(actions[0])
    if actions[0] == "exec":
        if not action.texts("command"):
            raise AgentError(f"{name}: exec: command: is needed")
    elif not action.number("port", 0, range(1, 1 << 16)):
        raise AgentError(f"{name}: {actions[0]}: port: is needed")
    return Probe(
        said=said,
        host=action.text("host") if actions[0] != "exec" else "",
        initial_delay=float(fields.number("initialDelaySeconds", 0)),
        period=float(fields.number("periodSeconds", 0) or 10),
        timeout=float(fields.number("timeoutSeconds", 0) or 1),
        successes=fields.number("successThreshold", 0) or 1,
        failures=fields.number("failureThreshold", 0) or 1,
    )


def why_not_well(asked: Probe, target: Target) -> str:
    """Ask once: empty if it is well. Blocks."""
    command = asked.said.get("exec")
    if isinstance(command, Mapping):
        try:
            argv = [str(word) for word in command["command"]]
            done = subprocess.run(argv, capture_output=True, timeout=asked.timeout, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if done.returncode == 0 else f"{argv[0]}: status {done.returncode}"
    http_get = asked.said.get("httpGet")
    listed = http_get.get("httpHeaders") if isinstance(http_get, Mapping) else None
    headers = {str(h.get("name")): str(h.get("value", "")) for h in listed or () if isinstance(h, Mapping)}
    there = replace(target, address=asked.host) if asked.host else target
    status, text = probe({**asked.said, "timeoutSeconds": asked.timeout}, there, headers)
    return "" if status in _GOOD else f"{status} {text[:200]}".strip()


async def watch(
    asked: Probe,
    ask: Callable[[], str],
    tell: Callable[[str], None],
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
) -> None:
    """For ever: `tell` is given why it is not well, or an empty text."""
    told: bool | None = None
    in_a_row = {True: 0, False: 0}
    await sleep(asked.initial_delay)
    while True:
        reason = await asyncio.to_thread(ask)
        well = not reason
        in_a_row = {well: in_a_row[well] + 1, not well: 0}
        if in_a_row[well] >= (asked.successes if well else asked.failures) and told is not well:
            log.info("the workload is well" if well else "the workload is not well", reason=reason)
            tell(reason)
            told = well
        await sleep(asked.period)
