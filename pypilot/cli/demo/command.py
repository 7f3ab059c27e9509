"""`pypilot demo`: options in, exit code out."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator

import aiohttp
import click
from rich.console import Console

from pypilot.cli.demo.checks import Checks
from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy
from pypilot.cli.demo.report import Reporter, as_json, table
from pypilot.cli.demo.stage import Options, Stage, set_stage
from pypilot.cli.demo.steps import STEPS, run_steps

_PLAIN_WIDTH = 140
"""Columns of the table where there is no terminal to ask."""


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C, and say how to try it by hand.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Result."
)
@click.option(
    "--ads",
    type=click.Choice(["delta", "sotw"]),
    default="delta",
    show_default=True,
    help="How the Envoys ask: incrementally, or for the state of the world.",
)
@click.option(
    "--interception",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="The egress step needs root on Linux, ip and iptables: left out where these are missing, required, or never.",
)
@click.option("--envoy", default="", envvar="ENVOY", help="Envoy to run; else the wheel's, else the one on the PATH.")
def demo(keep: bool, output: str, ads: str, interception: str, envoy: str) -> None:
    """Run the control plane, real Envoys and real traffic on this machine, and check what comes out.

    Works on a temporary copy of deploy/demo. Exit code 0 only if everything was as expected.
    """
    try:
        binary = find_envoy({"ENVOY": envoy})
    except EnvoyNotFoundError as error:
        raise click.ClickException(str(error)) from error
    options = Options(binary, "GRPC" if ads == "sotw" else "DELTA_GRPC", interception)
    console = Console(stderr=output == "json")
    if not console.is_terminal:
        console = Console(stderr=output == "json", width=_PLAIN_WIDTH)
    try:
        code = asyncio.run(_main(options, console, keep=keep, as_json_on_stdout=output == "json"))
    except (KeyboardInterrupt, asyncio.CancelledError):  # by a signal, before the end
        code = 130
    sys.exit(code)


async def _main(options: Options, console: Console, *, keep: bool, as_json_on_stdout: bool) -> int:
    start = time.monotonic()
    titles = [step.title for step in STEPS]
    with _ended_by_signals(), Reporter(console) as reporter:
        checks = Checks(reporter)
        checks.begin(0, "pypilot demo")
        checks.doing("starting the control plane, the gateway and the backends")
        try:
            async with set_stage(options) as stage:
                reporter.say(
                    f"control plane ready after {stage.control_plane.ready_seconds * 1000:.0f} ms, "
                    f"gateway's Envoy live; configuration in {stage.work.config}"
                )
                await run_steps(stage, checks)
                reporter.rest()
                seconds = time.monotonic() - start
                if as_json_on_stdout:
                    click.echo(as_json(checks, titles, seconds))
                else:
                    console.print("\n", table(checks, titles))
                if not checks.ok:
                    await _say_what_was_wrong(stage, reporter)
                reporter.say(f"\n{'Everything held' if checks.ok else 'FAILED'} ({seconds:.0f} s)")
                if keep:
                    _say_how_to_go_on(stage, reporter)
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.Event().wait()
        except (RuntimeError, TimeoutError, OSError, LookupError) as error:
            # Setting the stage failed: there is nothing to show but the reason.
            reporter.rest()
            reason = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            reporter.say(f"FAILED to start: {reason}")
            if as_json_on_stdout:
                click.echo(json.dumps({"ok": False, "error": reason, "steps": []}, indent=2))
            return 1
    return 0 if checks.ok else 1


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """The first of these signals ends the demo in order, with nothing left behind; further ones change nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    for number in caught:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


async def _say_what_was_wrong(stage: Stage, reporter: Reporter) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError):
        for problem in await stage.control_plane.problems():
            reporter.say(f"pypilot: {problem}")
    for envoy in stage.envoys:
        for line in envoy.complaints()[-3:]:
            reporter.say(f"{envoy.name}: {line}")
    reporter.say(f"logs: {stage.work.save_logs()}")


def _say_how_to_go_on(stage: Stage, reporter: Reporter) -> None:
    say = reporter.say
    say("\nEverything is left running until Ctrl-C. Edit the YAML and watch:")
    say(f"  YAML           {stage.work.config}")
    say(f"  control plane  {stage.control_plane.http}/debug/syncz  /debug/config_dump?proxyID=  /debug/problems")
    say(f"  metrics        {stage.control_plane.monitoring}/metrics")
    for envoy in stage.envoys:
        say(f"  {envoy.name:<14} curl --unix-socket {envoy.admin_socket} http://envoy/config_dump")
        say(f"  {'':<14} tail -f {envoy.access_log.path}")
    for hint in stage.hints:
        say(f"  {hint}")
