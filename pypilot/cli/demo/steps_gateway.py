"""Steps 1 to 3: HTTPS through the gateway, a live weight change, a certificate rotation, and the ways to fail.

Each is a function of the stage and the record; nothing is started here.
"""

import time
from collections import Counter

from pypilot.cli.demo.certificates import short
from pypilot.cli.demo.checks import Checks, settled, split_bounds
from pypilot.cli.demo.clients import Answer, HttpClient
from pypilot.cli.demo.stage import AUTHORITY_FILE, HOST, SECRET_FILE, Stage

SPLIT_REQUESTS = 500
ROUTES_FILE = "routes.yaml"


def versions(answers: list[Answer]) -> Counter[str]:
    """How many answers came from each version; others count by status."""
    return Counter(a.seen.get("version") or f"status {a.status}" for a in answers)


def shown(counts: Counter[str]) -> str:
    """`v1 402, v2 98`."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"


async def https_and_split(stage: Stage, checks: Checks) -> None:
    """Step 1: TLS from a Secret over SDS, and subset weights that follow an edit."""
    checks.doing("waiting for the first answer")
    answer = await settled(lambda: stage.client.get(stage.url("/hello")), lambda a: a.status == 200)
    checks.equal("GET https://shop.example/hello", 200, answer.status)
    checks.equal("the backend sees the original scheme", "https", answer.seen["headers"].get("x-forwarded-proto"))
    async with stage.steady_client().running() as steady:
        await steady.wait_more(1)
    checks.equal("certificate is the Secret's (serial)", short(stage.certificate.serial), _serials(steady.serials))
    entry = await stage.gateway.access_log.wait_for(lambda e: e.get("path") == "/hello")
    cluster = "outbound|80|v2|shop.demo.svc.cluster.local"
    checks.equal("cluster in the access log", cluster, (entry or {}).get("upstream_cluster"))

    checks.doing("weights 0/100")
    counts = versions(await stage.client.get_many(stage.url(), 100))
    checks.equal("weights 0/100, 100 requests", "v2 100", shown(counts))

    checks.doing("editing the weights to 80/20")
    stage.work.edit(ROUTES_FILE, {"weight: 0\n": "weight: 80\n", "weight: 100\n": "weight: 20\n"})
    start = time.perf_counter()
    first = await settled(lambda: stage.client.get(stage.url()), lambda a: a.seen.get("version") == "v1")
    waited = time.perf_counter() - start
    checks.that(
        "file edited: first answer from v1",
        first.seen.get("version") == "v1",
        expected="within 10 s",
        seen=f"after {waited * 1000:.0f} ms" if first.seen.get("version") == "v1" else "never",
    )
    checks.doing(f"{SPLIT_REQUESTS} requests")
    counts = versions(await stage.client.get_many(stage.url(), SPLIT_REQUESTS))
    low, high = split_bounds(SPLIT_REQUESTS, 0.2)
    ok = set(counts) == {"v1", "v2"} and low <= counts["v2"] <= high
    checks.that(f"weights 80/20, {SPLIT_REQUESTS} requests", ok, expected=f"v2 {low} to {high}", seen=shown(counts))
    host, port = stage.https_address
    trust = f"--cacert {stage.work.root / AUTHORITY_FILE}"
    stage.hints.append(f"curl {trust} --resolve {HOST}:{port}:{host} {stage.url()}")


def _serials(counts: Counter[int]) -> str:
    return ", ".join(map(short, counts))


async def rotation(stage: Stage, checks: Checks) -> None:
    """Step 2: a new certificate while a client opens connections without pause."""
    old, new = stage.certificate, stage.authority.issue(HOST)
    async with stage.steady_client().running() as steady:
        checks.doing("connecting without pause")
        await steady.wait_more(50)
        checks.doing("editing the Secret")
        stage.install(new)
        stage.certificate = new
        start = time.perf_counter()
        arrived = await steady.wait_serial(new.serial, 10)
        waited = time.perf_counter() - start
        checks.that(
            f"{SECRET_FILE} edited: first new certificate",
            arrived,
            expected="within 10 s",
            seen=f"after {waited * 1000:.0f} ms" if arrived else "never",
        )
        before = steady.serials[old.serial]
        await steady.wait_more(50)
    checks.equal("old certificate shown again afterwards", 0, steady.serials[old.serial] - before)
    checks.that(
        f"failed of {steady.done} TLS connections with a request each",
        not steady.failures,
        expected="0",
        seen=f"{len(steady.failures)}" + "".join(f" ({f})" for f in steady.failures[:1]),
    )


async def outcomes(stage: Stage, checks: Checks) -> None:
    """Step 3: what users see when there is no route, no endpoint, or no answer in time."""
    probe = await _probe(stage, "/nowhere", host="other.example")
    checks.equal("host without a route (HTTPS server)", "404 NR", probe)

    host, port = stage.http_address
    async with HttpClient.to(host) as plain:
        answer = await plain.get(f"http://unused.example:{port}/blackhole")
    entry = await stage.gateway.access_log.wait_for(lambda e: e.get("path") == "/blackhole")
    checks.equal("server without any route", "404 NR", f"{answer.status} {(entry or {}).get('response_flags')}")
    name = f"blackhole:{port}"
    found = [v for v in await virtual_hosts(stage) if v.startswith("blackhole")]
    checks.equal("its virtual host", name, ", ".join(found))

    checks.equal("destination without endpoints", "503 UH", await _probe(stage, "/empty"))
    checks.doing("a slow host")
    checks.equal("timeout 1s on a host that takes 5 s", "504 UT", await _probe(stage, "/slow"))


async def _probe(stage: Stage, path: str, *, host: str = "") -> str:
    """Status and response flags of one request."""
    since = stage.gateway.access_log.mark()
    answer = await stage.client.get(stage.url(path), host=host)
    entry = await stage.gateway.access_log.wait_for(lambda e: e.get("path") == path, since=since)
    return f"{answer.status} {(entry or {}).get('response_flags')}"


async def virtual_hosts(stage: Stage) -> list[str]:
    """Names of the virtual hosts that the gateway's Envoy holds."""
    configs = await stage.gateway.config_dump("dynamic_route_configs")
    return [host["name"] for config in configs for host in config["route_config"].get("virtual_hosts", ())]
