"""What a control plane does in a cluster beside reading it: prove who it is, ask who others are, write what is its own.

Wiring only: authentication of proxies, the serving root and certificate, leader election and what the leader keeps
right (root Secret, root ConfigMaps, statuses of Ingresses and ServiceEntries, webhook), and the webhook itself. Made of
settings and a connection.
"""

import asyncio
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiohttp import web

from pypilot.compile.credential_names import is_public
from pypilot.identity import IdentityServices
from pypilot.kinds import KINDS
from pypilot.kinds.base import Object, Ref
from pypilot.kube.access_review import AccessStatistics, SecretAccessReviews
from pypilot.kube.connection import WritingConnection
from pypilot.kube.ingress_status import IngressStatusWriter, StatusStatistics, Wrong
from pypilot.kube.lease import Election, LeaseTiming
from pypilot.kube.token_review import ReviewStatistics, TokenReviews
from pypilot.security.impersonation import Pods
from pypilot.security.issuing import IssuingStatistics
from pypilot.security.published import CONFIG_MAP, PublishingStatistics, RootPublisher
from pypilot.security.root import OWN, PLUGGED, RootKeeper
from pypilot.settings import Settings
from pypilot.upkeep.addresses import AddressStatistics, AddressWriter, address_rules
from pypilot.upkeep.messages import Message, MessageStatistics, MessageWriter
from pypilot.upkeep.registration import Registered, Registrar, RegistrationError, registration_rules
from pypilot.webhook import mutating, validating
from pypilot.webhook.injector import Injector
from pypilot.webhook.registration import Registration
from pypilot.webhook.server import WebhookTls, webhook_app
from pypilot.wire.node import Proxy
from pypilot.world.world import World
from pypilot.xds.attendance import Attendance
from pypilot.xds.auth import DeniedError, Identity
from pypilot.xds.secret_access import SecretAccess

REGISTRATION_GRACE = 10.0
"""Seconds after which a machine that left is forgotten (WE-006)."""


def lease_name(revision: str) -> str:
    """The Lease that the writers of a revision share."""
    return "pypilot-leader" if revision in ("", "default") else f"pypilot-leader-{revision}"


def _rule(group: str, resource: str, verbs: tuple[str, ...], *names: str) -> dict[str, list[str]]:
    rule = {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
    return {**rule, "resourceNames": list(names)} if names else rule


def role_rules(revision: str = "default") -> list[dict[str, list[str]]]:
    """What this module needs in the root namespace, as the rules of a Role."""
    return [
        _rule("coordination.k8s.io", "leases", ("get", "update"), lease_name(revision)),
        _rule("coordination.k8s.io", "leases", ("create",)),
        _rule("", "secrets", ("list", "watch"), PLUGGED, OWN),
        _rule("", "secrets", ("update",), OWN),
        _rule("", "secrets", ("create",)),
        _rule("networking.istio.io", "gateways", ("create",)),  # the webhook's self-test, as a dry run
    ]


def publishing_rules() -> list[dict[str, list[str]]]:
    """What it needs in every namespace that gets the root: of a ClusterRole, or of a Role in each."""
    return [_rule("", "configmaps", ("list", "watch", "patch"), CONFIG_MAP), _rule("", "configmaps", ("create",))]


def status_rules() -> list[dict[str, list[str]]]:
    """What it needs in every namespace that is read: for statuses, and for machines that register themselves."""
    return [_rule("networking.k8s.io", "ingresses/status", ("patch",)), *address_rules(), *registration_rules()]


def review_rules() -> list[dict[str, list[str]]]:
    """What it needs in every namespace that has proxies, to ask who of them may read secrets."""
    return [_rule("authorization.k8s.io", "localsubjectaccessreviews", ("create",))]


class _SecretAccess:
    """What the API server says of service accounts, for streams."""

    def __init__(self, reviews: SecretAccessReviews) -> None:
        self._reviews = reviews

    async def allowed(self, identity: Identity) -> tuple[bool | None, float]:
        found = await self._reviews.access(identity.namespace, identity.service_account)
        return found.allowed, found.seconds

    def is_public(self, name: str) -> bool:
        return is_public(name)


class _Attendance:
    """Machines that register themselves, for streams."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar

    async def arrived(self, proxy: Proxy, identity: Identity | None, at: datetime) -> Registered | None:
        account = (identity.namespace, identity.service_account) if identity is not None else None
        try:
            return await self._registrar.connect(proxy, account, at)
        except RegistrationError as error:
            raise DeniedError(error.code, str(error)) from None

    def left(self, present: Registered) -> None:
        self._registrar.disconnect(present)

    def reported(self, present: Registered, healthy: bool, message: str) -> None:
        self._registrar.report(present, healthy, message)


def cluster_rules(namespace: str, revision: str = "default") -> list[dict[str, list[str]]]:
    """What it needs of what has no namespace."""
    names = {
        "validatingwebhookconfigurations": validating.configuration_name(namespace, revision),
        "mutatingwebhookconfigurations": mutating.configuration_name(namespace, revision),
    }
    return [
        _rule("authentication.k8s.io", "tokenreviews", ("create",)),
        *(_rule("admissionregistration.k8s.io", r, ("list", "watch", "patch"), name) for r, name in names.items()),
    ]


@dataclass(frozen=True, slots=True)
class ClusterStatistics:
    """For the debug pages."""

    identity: str
    leader: str
    is_leading: bool
    root: str
    """Fingerprint."""
    root_trouble: str
    certificate_until: datetime | None
    tokens: ReviewStatistics
    publishing: PublishingStatistics
    addresses: AddressStatistics
    messages: MessageStatistics | None
    """Of statuses; None where they are not written."""
    webhook: str
    injection: str
    certificates: IssuingStatistics
    ingresses: StatusStatistics
    secret_access: AccessStatistics


class ClusterServices:
    """`start`, then `run` beside everything else, then `close`."""

    def __init__(
        self,
        settings: Settings,
        connection: WritingConnection,
        trust_domain: Callable[[], str],
        pods: Callable[[], Pods],
        timing: LeaseTiming | None = None,
        wrong_statuses: Callable[[], Wrong] = dict,
        messages: Callable[[], Mapping[Ref, Sequence[Message]]] = dict,
        registration_grace: float = REGISTRATION_GRACE,
        world: Callable[[], World | None] = lambda: None,
    ) -> None:
        """`trust_domain` is the mesh's, `pods` those of the world, at that moment, as are statuses to be corrected.

        Pods are injected by `world`, and not before there is one.
        """
        namespace, revision = settings.root_namespace, settings.revision
        self._compliance = settings.compliance_policy
        self._keeper = RootKeeper(connection, namespace)
        self._reviews = TokenReviews(connection)
        self.identity = IdentityServices(settings, self._keeper, self._reviews, trust_domain, pods)
        scope = tuple(dict.fromkeys((*settings.namespaces, namespace))) if settings.namespaces else ()
        self._publisher = RootPublisher(connection, self._bundle, scope)
        self._statuses = IngressStatusWriter(connection, wrong_statuses)
        self._addresses = AddressWriter(connection)
        self._messages = MessageWriter(connection, messages, KINDS, scope) if settings.write_status else None
        self._registrations: dict[str, Registration] = {}
        """By what they are for; none where only namespaces are ours, for these objects are of the whole cluster."""
        if not settings.namespaces:
            test = validating.self_test(connection, namespace, revision)
            name = validating.configuration_name(namespace, revision)
            self._registrations["validation"] = Registration(
                connection, "ValidatingWebhookConfiguration", name, self._bundle, test
            )
            name = mutating.configuration_name(namespace, revision)
            self._registrations["injection"] = Registration(
                connection, "MutatingWebhookConfiguration", name, self._bundle
            )
        for registration in self._registrations.values():
            self._keeper.listen(registration.bundle_changed)
        self._injector = Injector(world, settings.proxy_image, settings.native_sidecars)
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        self._election = Election(connection, namespace, lease_name(revision), identity, timing)
        self._registrar = Registrar(connection, identity, lambda: datetime.now(UTC), registration_grace)
        self.attendance: Attendance = _Attendance(self._registrar)
        """For `XdsServer`."""
        self._secret_reviews = SecretAccessReviews(connection)
        self.secret_access: SecretAccess = _SecretAccess(self._secret_reviews)
        """For `XdsServer`."""
        self._webhook_tls: WebhookTls | None = None
        self._log = structlog.get_logger("pypilot")
        self._keeper.listen(self._publisher.bundle_changed)
        self.identity.tls.listen(self._follow_certificate)

    async def start(self) -> None:
        """Begin; returns once there is a certificate to serve with, for which the first leader has to make a root."""
        await self.identity.start(self._election.run(self._lead))

    def webhook(self) -> tuple[web.Application, WebhookTls]:
        """The webhooks' application, and its TLS; only after `start`."""
        self._webhook_tls = WebhookTls(self.identity.tls, self._compliance)
        return webhook_app(injector=self._injector), self._webhook_tls

    async def run(self) -> None:
        """For ever; ends only by a defect."""
        await self.identity.run()

    async def close(self) -> None:
        """Stop everything; the lease is released."""
        await self._registrar.close()
        await self.identity.close()

    def namespaces_changed(self, names: Iterable[str]) -> None:
        """All namespaces of the mesh that there are now."""
        self._publisher.namespaces_changed(names)

    def world_changed(self) -> None:
        """Other statuses may be wrong now."""
        self._statuses.changed()

    def objects_changed(self, upserts: Iterable[Object], removals: Iterable[Ref]) -> None:
        """Objects that came, changed or went."""
        upserts = tuple(upserts)
        removals = tuple(removals)
        self._addresses.changed(upserts, removals)
        self._registrar.changed(upserts, removals)

    def statistics(self) -> ClusterStatistics:
        """How all this is."""
        root = self._keeper.root
        return ClusterStatistics(
            identity=self._election.identity,
            leader=self._election.holder,
            is_leading=self._election.is_leading,
            root=root.fingerprint if root else "",
            root_trouble=self._keeper.trouble,
            certificate_until=self.identity.not_after,
            tokens=self._reviews.statistics(),
            publishing=self._publisher.statistics(),
            addresses=self._addresses.statistics(),
            messages=self._messages.statistics() if self._messages is not None else None,
            webhook=self._state_of("validation"),
            injection=self._state_of("injection"),
            certificates=self.identity.statistics,
            ingresses=self._statuses.statistics(),
            secret_access=self._secret_reviews.statistics(),
        )

    def _state_of(self, purpose: str) -> str:
        found = self._registrations.get(purpose)
        return found.state if found else "not registered"

    def _bundle(self) -> bytes:
        return self._keeper.root.bundle if self._keeper.root else b""

    def _follow_certificate(self) -> None:
        if self._webhook_tls is None:
            return
        try:
            self._webhook_tls.follow()
        except (OSError, ValueError) as error:
            self._log.error("the webhook keeps its old certificate", reason=str(error))

    async def _lead(self) -> None:
        """Everything that writes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keeper.keep_made())
            tasks.create_task(self._publisher.run())
            tasks.create_task(self._statuses.run())
            tasks.create_task(self._addresses.run())
            if self._messages is not None:
                tasks.create_task(self._messages.run())
            tasks.create_task(self._registrar.run())
            for registration in self._registrations.values():
                tasks.create_task(registration.run())
