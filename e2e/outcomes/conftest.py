"""One stage for all outcomes of a worker; each test has a host name of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from e2e.outcomes.caller import Caller
from e2e.outcomes.pod import Pod, add_pod, pod_objects
from e2e.outcomes.servers import App, Nobody
from e2e.outcomes.stage import Proxy, Stage, set_stage

Start = Callable[..., Awaitable[App]]


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """The control plane and its directory."""
    async with set_stage(tmp_path_factory.mktemp("outcomes"), *pod_objects()) as made:
        yield made


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def gateway(stage: Stage) -> Proxy:
    """The gateway's Envoy."""
    return await stage.add_gateway()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def pod(stage: Stage) -> Pod:
    """A pod with a sidecar, in network namespaces."""
    return await add_pod(stage)


@pytest.fixture
def web(gateway: Proxy) -> Caller:
    """Whoever calls from outside, through the gateway."""
    return gateway.caller


@pytest.fixture
def host(request: pytest.FixtureRequest) -> str:
    """A host name that no other test has, short enough for certificates."""
    name = request.node.name.removeprefix("test_")
    return "".join(c if c.isalnum() else "-" for c in name)[:40].strip("-") + ".example"


@pytest_asyncio.fixture(loop_scope="session")
async def app() -> AsyncIterator[Start]:
    """Starts application servers, which end with the test."""
    async with AsyncExitStack() as stack:

        async def start(name: str = "app", version: str = "", **more: Any) -> App:
            made = App(name, version, **more)
            await made.start()
            stack.push_async_callback(made.stop)
            return made

        yield start


@pytest.fixture
def nobody() -> Nobody:
    """An address where connections are refused."""
    return Nobody.anywhere()
