"""Leader election on a real API server: two processes, one of which is killed, stopped, or cut off."""

import asyncio
import itertools
import json
import sys
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from e2e.kube.control_plane import PATIENCE, namespace
from e2e.kube.proxies import TcpProxy

SPACE = "leader"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SPACE}/leases/test-leader"

CANDIDATE = """
import asyncio, json, sys, time
import structlog
from pathlib import Path
from pypilot.kube.connection import Access, KubernetesConnection
from pypilot.kube.lease import Election, LeaseTiming

async def main(kubeconfig, name):
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    def say(what):
        print(json.dumps([name, what, time.monotonic()]), flush=True)
    timing = LeaseTiming(duration=4.0, renew_deadline=2.5, retry=0.4)
    election = Election(KubernetesConnection(Access(Path(kubeconfig))), "leader", "test-leader", name, timing)
    async def work():
        say("leads")
        try:
            while True:
                say("writes" if election.is_leading else "idle")
                await asyncio.sleep(0.05)
        finally:
            say("stopped")
    running = asyncio.create_task(election.run(work))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    say("released")

asyncio.run(main(*sys.argv[1:]))
"""


class Candidate:
    def __init__(self, name, process):
        self.name, self.process = name, process
        self.events = []

    async def follow(self):
        async for line in self.process.stdout:
            _, what, at = json.loads(line)
            if what != "writes" or not self.events or self.events[-1][0] != "writes":
                self.events.append([what, at, at])
            else:
                self.events[-1][2] = at

    def leads(self):
        return bool(self.events) and self.events[-1][0] in ("leads", "writes")

    def writing(self):
        """When it wrote: from, to, on the machine's one monotonic clock."""
        return [(begin, end) for what, begin, end in self.events if what == "writes"]


@asynccontextmanager
async def candidate(name, kubeconfig):
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CANDIDATE, str(kubeconfig), name, stdin=pipe, stdout=pipe
    )
    made = Candidate(name, process)
    following = asyncio.create_task(made.follow())
    try:
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await following


async def until(condition):
    async def poll():
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    await asyncio.wait_for(poll(), PATIENCE)


def assert_never_two(*candidates):
    spans = sorted(span for c in candidates for span in c.writing())
    assert spans
    for (_, end), (begin, _) in itertools.pairwise(spans):
        assert end < begin, spans


@pytest.fixture
async def space(client):
    await client.apply(namespace(SPACE))
    yield
    listed = await client.request("GET", LEASE.rpartition("/")[0])
    for item in listed["items"]:
        await client.request("DELETE", f"{LEASE.rpartition('/')[0]}/{item['metadata']['name']}")
    await client.wipe()


async def test_one_leads_and_the_other_takes_over_after_a_kill(cluster, client, space):
    config = cluster.kubeconfig()
    async with candidate("a", config) as a, candidate("b", config) as b:
        await until(lambda: a.leads() or b.leads())
        first, second = (a, b) if a.leads() else (b, a)
        first.process.kill()
        await first.process.wait()
        await until(second.leads)
        assert_never_two(a, b)
        spec = (await client.request("GET", LEASE))["spec"]
        assert spec["holderIdentity"] == second.name
        assert spec["leaseTransitions"] == 1
        datetime.fromisoformat(spec["renewTime"].replace("Z", "+00:00"))


async def test_a_candidate_that_stops_hands_over_at_once(cluster, client, space):
    config = cluster.kubeconfig()
    async with candidate("a", config) as a, candidate("b", config) as b:
        await until(lambda: a.leads() or b.leads())
        first, second = (a, b) if a.leads() else (b, a)
        first.process.stdin.close()
        await until(lambda: first.events[-1][0] == "released")
        await until(second.leads)
        assert_never_two(a, b)


async def test_a_leader_that_cannot_reach_the_server_stops_before_another_begins(cluster, client, space):
    async with TcpProxy(cluster.port).running() as proxy:
        away = cluster.kubeconfig(server=f"https://127.0.0.1:{proxy.port}", name="away")
        async with candidate("a", away) as a:
            await until(a.leads)
            async with candidate("b", cluster.kubeconfig()) as b:
                await until(lambda: len(a.writing()) and a.writing()[-1][1] - a.writing()[-1][0] > 1)
                proxy.is_stalled = True
                await until(b.leads)
                assert a.events[-1][0] == "stopped"
                proxy.is_stalled = False
                await until(lambda: b.writing() and b.writing()[-1][1] - b.writing()[-1][0] > 2)
                assert not a.leads()
                assert_never_two(a, b)
