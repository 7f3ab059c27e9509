"""Fetching over real sockets: what is refused, what is too much, and what is never said."""

import asyncio
import ssl

import pytest
from aiohttp import web

from pypilot.sources.fetching import Fetcher
from pypilot.sources.key_sets import FetchError
from tests.xds.certificates import Authority


@pytest.fixture
async def site():
    async def keys(_):
        return web.Response(body=b'{"keys": []}')

    async def large(_):
        return web.Response(body=b"x" * (2 << 20))

    async def slow(_):
        await asyncio.sleep(60)

    async def onward(request):
        raise web.HTTPFound(request.query["to"])

    app = web.Application()
    app.add_routes([web.get(f"/{f.__name__}", f) for f in (keys, large, slow, onward)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def fetch():
    made = Fetcher()
    yield made
    await made.close()


async def test_a_document_and_a_way_to_it(site, fetch):
    assert await fetch(f"{site}/keys", 60) == b'{"keys": []}'
    assert await fetch(f"{site}/onward?to=/keys", 60) == b'{"keys": []}'


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/large", "larger than"),
        ("/absent", "answered 404"),
        ("/onward?to=http://169.254.169.254/latest", "must not be asked"),
        ("/onward?to=file:///etc/passwd", "not an http or https URL"),
        ("/onward?to=/onward?to=/onward", "answered|redirects"),
    ],
)
async def test_what_is_no_document(site, fetch, path, reason):
    with pytest.raises(FetchError, match=reason):
        await fetch(site + path, 60)


async def test_one_that_never_comes(site, fetch):
    with pytest.raises(FetchError, match=r"within 0\.05 s"):
        await fetch(f"{site}/slow", 0.05)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/keys",
        "http://[::ffff:169.254.169.254]/keys",
        "http://[fd00:ec2::254]/",
        "ftp://example.com/keys",
        "keys",
        "http://",
        "http://[bad",
    ],
)
async def test_addresses_that_are_never_asked(fetch, url):
    with pytest.raises(FetchError):
        await fetch(url, 60)


async def test_an_operator_can_forbid_more(site):
    from ipaddress import ip_network

    fetch = Fetcher(blocked=[ip_network("127.0.0.0/8")])
    for url in (f"{site}/keys", f"{site}/keys".replace("127.0.0.1", "localhost")):
        with pytest.raises(FetchError, match=r"127\.0\.0\.1 must not be asked"):
            await fetch(url, 60)
    await fetch.close()


async def test_users_and_queries_are_not_said(site, fetch):
    with pytest.raises(FetchError) as caught:
        await fetch(f"{site}/absent?token=secret".replace("http://", "http://me:password@"), 60)
    assert "secret" not in str(caught.value)
    assert "password" not in str(caught.value)


async def test_certificates_are_checked(tmp_path):
    authority = Authority()
    pair = authority.issue(dns="localhost")
    (tmp_path / "pair.pem").write_bytes(pair.key + pair.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")

    async def keys(_):
        return web.Response(body=b"{}")

    app = web.Application()
    app.add_routes([web.get("/keys", keys)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}/keys"
    strangers = Fetcher()
    trusting = Fetcher(ssl.create_default_context(cadata=authority.certificate.decode()))
    try:
        with pytest.raises(FetchError, match="not trusted"):
            await strangers(url, 60)
        assert await trusting(url, 60) == b"{}"
    finally:
        await strangers.close()
        await trusting.close()
        await runner.cleanup()
