"""Rounds of repair: now, whenever something changed, and when something is due. Must not know what is repaired."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from structlog.typing import FilteringBoundLogger

_AFTER_DEFECT_SECONDS = 10.0


async def repair_for_ever(
    one_round: Callable[[], Awaitable[float | None]],
    wake: asyncio.Event,
    log: FilteringBoundLogger,
    failed: str,
) -> NoReturn:
    """Go round after round; a defect in one is logged, and does not end them.

    Args:
        one_round: repairs what is wrong; gives the seconds after which to look again, None if only a change matters.
        wake: set when something changed; cleared before each round.
        failed: what to log when a round raises.
    """
    while True:
        wake.clear()
        try:
            pause = await one_round()
        except Exception:
            log.exception(failed)
            pause = _AFTER_DEFECT_SECONDS
        try:
            async with asyncio.timeout(pause):  # wait_for of Python 3.11 can lose a cancellation
                await wake.wait()
        except TimeoutError:
            pass
