"""The steps of the demo, in order, and the loop that runs them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pypilot.cli.demo.checks import CheckFailedError, Checks
from pypilot.cli.demo.process import ChildDiedError
from pypilot.cli.demo.stage import Stage
from pypilot.cli.demo.steps_broken import broken_files
from pypilot.cli.demo.steps_egress import egress
from pypilot.cli.demo.steps_gateway import https_and_split, outcomes, rotation


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a title and what it does."""

    title: str
    run: Callable[[Stage, Checks], Awaitable[None]]


STEPS = (
    Step("HTTPS through the gateway, weights edited live", https_and_split),
    Step("Certificate rotated while a client connects", rotation),
    Step("No route, no endpoint, no answer in time", outcomes),
    Step("Egress through a sidecar with intercepted traffic", egress),
    Step("Broken files are reported, traffic goes on", broken_files),
)


async def run_steps(stage: Stage, checks: Checks) -> None:
    """Run all steps. One that fails is recorded and ended; a dead child process ends them all."""
    for number, step in enumerate(STEPS, 1):
        checks.begin(number, step.title)
        try:
            await step.run(stage, checks)
        except CheckFailedError:
            pass
        except Exception as error:  # recorded as a failed check: nothing passes unseen
            checks.failed("the step ran to its end", error)
        try:
            for child in (stage.control_plane.child, *(envoy.child for envoy in stage.envoys)):
                child.check()
        except ChildDiedError as error:
            checks.failed("every process still runs", error)
            return
