"""`pypilot echo`, as an application and as a process that is told to stop while it answers."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from pypilot.cli.echo import echo_app


@pytest.fixture
async def client() -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(echo_app("web", "v1", "pod-0"))) as client:
        yield client


async def test_it_says_who_it_is_and_what_it_saw(client: TestClient) -> None:
    answer = await client.post("/a/b?c=d", data=b"x" * 100_000, headers={"Host": "shop.example", "X-Trace": "1"})
    seen = await answer.json()
    assert answer.status == 200
    assert answer.headers["x-served-by"] == "web-v1"
    assert {k: v for k, v in seen.items() if k != "headers"} == {
        "name": "web",
        "version": "v1",
        "hostname": "pod-0",
        "method": "POST",
        "host": "shop.example",
        "path": "/a/b?c=d",
    }
    assert seen["headers"]["x-trace"] == "1"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/status/503", 503),
        ("/status/418", 418),
        ("/status/99", 400),
        ("/status/x", 400),
        ("/status/-1", 400),
        ("/delay?ms=1", 200),
        ("/delay", 400),
        ("/delay?ms=1e9", 400),
    ],
)
async def test_status_and_delay(client: TestClient, path: str, status: int) -> None:
    assert (await client.get(path)).status == status


async def test_an_open_request_is_answered_though_the_process_is_told_to_stop() -> None:
    command = ("-c", "from pypilot.cli.main import main; main()")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "echo", "--host=127.0.0.1", "--port=0", "--name=web", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int((await process.stdout.readline()).rpartition(b":")[2])
    reading, writing = await asyncio.open_connection("127.0.0.1", port)
    writing.write(b"GET /delay?ms=1500 HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
    assert b" 100 " in await reading.readline()  # it has begun with this request
    process.send_signal(signal.SIGTERM)
    head, _, body = (await reading.read()).lstrip().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["name"] == "web"
    writing.close()
    assert await process.wait() == 0
