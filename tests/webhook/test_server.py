"""The HTTPS application: an answer to every request, a certificate that follows, registration on a server in memory."""

import asyncio
import base64
import json
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web

from pypilot.kinds import KINDS
from pypilot.kube.errors import ApiError
from pypilot.kube.objects import FollowTimes
from pypilot.security.authority import Authority
from pypilot.security.x509 import make_root
from pypilot.webhook import mutating
from pypilot.webhook.registration import Registration
from pypilot.webhook.server import WebhookTls, webhook_app
from pypilot.webhook.validating import WEBHOOK, configuration_name, self_test, webhook_configuration
from tests.kube.fake_api import FakeApi
from tests.webhook.test_review import GOOD, review, virtual_service
from tests.xds.harness import until


class Source:
    def __init__(self):
        self.count = 0
        self.renew()

    def renew(self):
        self.root = make_root("test", datetime.now(UTC))
        self.issued = Authority(self.root).server(["localhost"], datetime.now(UTC), timedelta(hours=1))
        self.count += 1

    def stamp(self):
        return self.count

    def read(self):
        return self.issued.key, self.issued.chain, self.root.bundle


@asynccontextmanager
async def served(source, app=None):
    tls = WebhookTls(source)
    runner = web.AppRunner(app or webhook_app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=tls.context).start()
    try:
        yield tls, runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def posted(port, source, body, path="/validate"):
    context = ssl.create_default_context(cadata=source.root.bundle.decode())
    data = body if isinstance(body, bytes) else json.dumps(body)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"https://localhost:{port}{path}", data=data, ssl=context) as response,
    ):
        return response.status, await response.text()


async def test_verdicts():
    source = Source()
    async with served(source) as (_, port):
        status, text = await posted(port, source, review(GOOD))
        assert (status, json.loads(text)["response"]["allowed"]) == (200, True)
        status, text = await posted(port, source, review(virtual_service()))
        assert status == 200
        assert "spec.http[0].route[0].weight" in json.loads(text)["response"]["status"]["message"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"kind": "AdmissionReview"}', 400),
        (b"[" * 100_000, 400),
        (b" " * (9 << 20), 413),
    ],
    ids=["empty", "binary", "cut", "list", "no request", "deep", "large"],
)
async def test_what_is_no_review_is_said_so(body, expected):
    source = Source()
    async with served(source) as (_, port):
        status, text = await posted(port, source, body)
        assert status == expected
        assert text.strip()


async def test_other_paths_are_not_found():
    source = Source()
    async with served(source) as (_, port):
        assert (await posted(port, source, b"{}", "/inject"))[0] == 404


async def test_a_new_certificate_takes_the_place_of_the_old():
    source = Source()
    async with served(source) as (tls, port):
        assert (await posted(port, source, review(GOOD)))[0] == 200
        source.renew()
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await posted(port, source, review(GOOD))
        tls.follow()
        assert (await posted(port, source, review(GOOD)))[0] == 200


# -- registration -----------------------------------------------------------------------------------------------------

NAME = configuration_name("root")
PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{NAME}"


async def instant(_):
    await asyncio.sleep(0.001)


class Gateways(FakeApi):
    """An API server that calls the webhook, or does not."""

    def __init__(self):
        super().__init__()
        self.denies = f'admission webhook "{WEBHOOK}" denied the request: spec.servers[0].tls'
        self.tests = 0

    async def send(self, method, path, body, content_type="application/json", seconds=30.0):
        if path.partition("?")[0].endswith("/gateways"):
            assert path.endswith("?dryRun=All")
            self.tests += 1
            if not path.startswith("/apis/networking.istio.io/v1/"):
                raise ApiError(404, "not found")
            if self.denies:
                raise ApiError(403, self.denies)
            return await super().get(PATH, {}, "", 1)
        return await super().send(method, path, body, content_type, seconds)


@asynccontextmanager
async def registered(api, bundle=lambda: b"PEM"):
    test = self_test(api, "root", "default")
    kind = "ValidatingWebhookConfiguration"
    registration = Registration(api, kind, NAME, bundle, test, times=FollowTimes(sleep=instant))
    task = asyncio.create_task(registration.run())
    try:
        yield registration
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hook(api):
    (found,) = api.objects[PATH]["webhooks"]
    return found


async def test_the_root_is_written_and_then_it_insists():
    api = Gateways()
    api.put(PATH, webhook_configuration(KINDS, "root"))
    async with registered(api) as registration:
        await until(lambda: registration.state == "Fail")
    assert hook(api)["failurePolicy"] == "Fail"
    assert hook(api)["clientConfig"]["caBundle"] == base64.b64encode(b"PEM").decode()
    assert hook(api)["clientConfig"]["service"]["name"] == "istiod"
    assert hook(api)["rules"] == webhook_configuration(KINDS, "root")["webhooks"][0]["rules"]


@pytest.mark.parametrize(
    "denies",
    ["", 'admission webhook "other.example.com" denied the request: no', "Gateway is invalid: spec.servers", "quota"],
    ids=["accepted", "another webhook", "the schema", "something else"],
)
async def test_it_does_not_insist_before_it_was_itself_who_denied(denies):
    api = Gateways()
    api.denies = denies
    api.put(PATH, webhook_configuration(KINDS, "root"))
    async with registered(api) as registration:
        await until(lambda: api.tests > 0 and bool(registration._said))
        assert hook(api)["failurePolicy"] == "Ignore"
        api.denies = f'admission webhook "{WEBHOOK}" denied the request: spec.servers[0].tls'
        await until(lambda: hook(api)["failurePolicy"] == "Fail")


async def test_what_is_absent_is_said_once_and_found_when_it_comes():
    api = Gateways()
    async with registered(api) as registration:
        await until(lambda: registration.state == "absent")
        assert api.writes() == []
        api.put(PATH, webhook_configuration(KINDS, "root"))
        await until(lambda: registration.state == "Fail")


async def test_another_root_is_written_and_fail_stays():
    api, bundle = Gateways(), b"PEM"
    api.put(PATH, webhook_configuration(KINDS, "root"))
    async with registered(api, lambda: bundle) as registration:
        await until(lambda: registration.state == "Fail")
        tests = api.tests
        bundle = b"NEW"
        api.denies = ""
        registration.bundle_changed()
        await until(lambda: hook(api)["clientConfig"]["caBundle"] == base64.b64encode(b"NEW").decode())
        await until(lambda: registration.state == "Fail")
        assert hook(api)["failurePolicy"] == "Fail"
        assert api.tests == tests


async def test_one_that_was_changed_by_somebody_is_put_right():
    api = Gateways()
    api.put(PATH, webhook_configuration(KINDS, "root"))
    async with registered(api) as registration:
        await until(lambda: registration.state == "Fail")
        api.put(PATH, webhook_configuration(KINDS, "root"))
        await until(lambda: hook(api)["failurePolicy"] == "Fail" and "caBundle" in hook(api)["clientConfig"])


async def test_of_the_injecting_webhook_only_the_root_is_kept():
    name = mutating.configuration_name("root")
    path = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}"
    api = FakeApi()
    api.put(path, mutating.webhook_configuration("root"))
    times = FollowTimes(sleep=instant)
    registration = Registration(api, "MutatingWebhookConfiguration", name, lambda: b"PEM", times=times)
    task = asyncio.create_task(registration.run())
    try:
        await until(lambda: registration.state == "Fail")
        bundle = base64.b64encode(b"PEM").decode()
        assert [h["clientConfig"]["caBundle"] for h in api.objects[path]["webhooks"]] == [bundle] * 4
        installed = mutating.webhook_configuration("root")
        installed["webhooks"][1]["failurePolicy"] = "Ignore"
        api.put(path, installed)
        await until(lambda: registration.state == "Ignore")
        hooks = api.objects[path]["webhooks"]
        assert [h["clientConfig"]["caBundle"] for h in hooks] == [bundle] * 4
        assert [h["failurePolicy"] for h in hooks] == ["Fail", "Ignore", "Fail", "Fail"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
