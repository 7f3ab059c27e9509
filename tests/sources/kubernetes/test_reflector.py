import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pypilot.kinds.base import Object, Origin, Ref
from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.sources.kubernetes.reflector import Reflector, Resource
from pypilot.sources.kubernetes.store import Changes
from tests.sources.kubernetes.fakes import (
    Clock,
    FakeConnection,
    Hold,
    Reply,
    Request,
    bookmark,
    event,
    item,
    kind_named,
    listed,
    not_found,
    script,
    service,
    unreachable,
)
from tests.sources.kubernetes.fakes import until as until_

EXPIRED = event("ERROR", {"kind": "Status", "code": 410, "message": "too old"})


@dataclass
class Run:
    """A reflector of services at work."""

    reflector: Reflector
    connection: FakeConnection
    clock: Clock
    told: list[Changes] = field(default_factory=list)
    missing: int = 0

    @property
    def ports(self) -> dict[str, int]:
        return {key[1]: obj.spec.ports[0].port for key, obj in self.reflector.store.objects.items()}  # type: ignore[attr-defined]

    @property
    def seen(self) -> list[tuple[str, str]]:
        """Each request: `list` or `watch`, and from which version; not those that only ask where the server is."""
        return [
            ("watch", r.parameters["resourceVersion"]) if r.is_watch else ("list", r.parameters.get("continue", ""))
            for r in self.connection.requests
            if not is_check(r)
        ]

    @property
    def checks(self) -> int:
        """How often it was asked where the server is."""
        return sum(is_check(r) for r in self.connection.requests)


def is_check(request: Request) -> bool:
    return request.parameters.get("limit") == "1"


@asynccontextmanager
async def running(
    get: Callable[[Request], Reply],
    watch: Callable[[Request], Iterable[Reply | object]],
    page: int = 500,
    now: str = "1000",
) -> AsyncIterator[Run]:
    """`now`: where the server says that it is."""
    clock = Clock()
    connection = FakeConnection(lambda r: listed(version=now) if is_check(r) else get(r), watch)

    def told(changes: Changes) -> None:
        run.told.append(changes)

    def missing() -> None:
        run.missing += 1

    resource = Resource(kind_named("Service"), "v1")
    reflector = Reflector(connection, resource, Origin("cluster c1"), clock.pace(page=page), told, missing)
    run = Run(reflector, connection, clock)
    task = asyncio.create_task(reflector.run())
    try:
        yield run
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def lists(*bodies: Reply) -> Callable[[Request], Reply]:
    """The lists, one after the other; the last one again and again."""
    left = list(bodies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


async def test_pages_then_a_watch_from_where_the_list_was() -> None:
    pages = {"": listed(service("a"), version="10", more="t1"), "t1": listed(service("b"), version="10")}
    watch = script([event("ADDED", service("c", version="11")), Hold])
    async with running(lambda r: pages[r.parameters.get("continue", "")], watch, page=2) as run:
        await until_(lambda: len(run.ports) == 3)
        assert run.seen == [("list", ""), ("list", "t1"), ("watch", "10")]
        assert all(r.parameters["limit"] == "2" for r in run.connection.requests[:2])
        assert run.connection.requests[2].parameters["allowWatchBookmarks"] == "true"
        assert [len(changes) for changes in run.told] == [2, 1]
        assert run.reflector.synced.is_set()


async def test_nothing_is_told_before_the_list_is_complete() -> None:
    def get(request: Request) -> Reply:
        return unreachable() if "continue" in request.parameters else listed(service("a"), more="t1")

    async with running(get, script()) as run:
        await until_(lambda: len(run.connection.requests) > 10)
        assert not [changes for changes in run.told if changes]
        assert not run.reflector.synced.is_set()


async def test_a_watch_that_ends_goes_on_from_its_last_event_or_bookmark() -> None:
    watch = script(
        [event("ADDED", service("b", version="11"))],
        [bookmark("15"), UnreachableError("reset")],
        [event("MODIFIED", service("a", port=81, version="16")), Hold],
    )
    async with running(lists(listed(service("a"))), watch) as run:
        await until_(lambda: run.ports.get("a") == 81)
        assert run.seen == [("list", ""), ("watch", "10"), ("watch", "11"), ("watch", "15")]
        assert run.reflector.progress.lists == 1
        assert run.reflector.progress.revision == "16"


async def test_half_an_event_is_no_event() -> None:
    half = event("DELETED", service("a", version="12"))[:-20]
    watch = script(
        [event("ADDED", service("b", version="11")) + half],
        [half, UnreachableError("reset")],
        [b"\n" + bookmark("13"), Hold],
    )
    async with running(lists(listed(service("a"))), watch) as run:
        await until_(lambda: len(run.seen) == 4)
        assert run.seen[2:] == [("watch", "11"), ("watch", "11")]
        assert run.ports == {"a": 80, "b": 80}


async def test_an_event_in_many_pieces_is_one_event() -> None:
    text = event("ADDED", service("b", version="11")) + event("ADDED", service("c", version="12"))
    watch = script([*(text[i : i + 7] for i in range(0, len(text), 7)), Hold])
    async with running(lists(listed(service("a"))), watch) as run:
        await until_(lambda: len(run.ports) == 3)


async def test_gone_means_a_new_list_and_only_the_difference_is_told() -> None:
    watch = script([EXPIRED], [Hold])
    bodies = lists(
        listed(service("a"), service("b"), service("c")),
        listed(service("a", version="20"), service("b", port=81), service("d"), version="30"),
    )
    async with running(bodies, watch) as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        changed = {ref.name: obj for ref, obj in run.told[-1].items()}
        assert changed.keys() == {"b", "c", "d"}
        assert changed["c"] is None
        assert run.seen[-1] == ("watch", "30")


async def test_a_server_that_always_says_gone_is_not_asked_ever_faster() -> None:
    async with running(lists(listed(service("a"))), lambda _: [EXPIRED]) as run:
        await until_(lambda: run.reflector.progress.lists == 7)
        assert run.clock.slept == sorted(run.clock.slept)
        assert run.clock.slept[-1] >= 16 * run.clock.slept[0]
        assert run.told == [{Ref("Service", "default", "a"): run.reflector.store.objects["default", "a"]}]


async def test_events_before_an_error_in_the_same_chunk_count() -> None:
    watch = script([event("ADDED", service("b", version="11")) + b"{broken\n"], [Hold])
    async with running(lists(listed(service("a"))), watch) as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        assert run.seen[-1] == ("watch", "11")
        assert len(run.ports) == 2


async def test_delays_double_up_to_a_limit_and_start_over() -> None:
    failures: list[Reply] = [unreachable() for _ in range(12)]
    watch = script([UnreachableError("reset")], [bookmark("12"), UnreachableError("reset")], [Hold])
    async with running(lists(*failures, listed(service("a"))), watch) as run:
        await until_(lambda: run.reflector.progress.watches == 3)
        slept = run.clock.slept
        assert slept[:4] == [0.2, 0.4, 0.8, 1.6]
        assert slept[11] == 20.0
        assert slept[12:] == [0.2, 0.2], "success starts over"


async def test_retry_after_is_never_undercut() -> None:
    bodies = lists(ApiError(429, "slow down", 7.0), ApiError(503, "not yet", 3.0), listed())
    async with running(bodies, script()) as run:
        await until_(lambda: run.reflector.synced.is_set())
        assert run.clock.slept[0] >= 7.0
        assert run.clock.slept[1] >= 3.0


async def test_watches_that_end_at_once_are_slowed_down() -> None:
    async with running(lists(listed(service("a"))), lambda _: []) as run:
        await until_(lambda: run.reflector.progress.watches == 8)
        assert run.clock.slept[-1] > 10
        assert run.reflector.progress.lists == 1


async def test_what_fails_long_is_told_and_what_is_forbidden_at_once() -> None:
    forbidden = ApiError(403, "services is forbidden")
    async with running(lists(forbidden, listed()), script()) as run:
        await until_(lambda: bool(run.told))
        assert run.reflector.lasting_error == "403 services is forbidden"
        await until_(lambda: run.reflector.synced.is_set())
        assert run.reflector.lasting_error == ""
    async with running(lists(*(unreachable() for _ in range(3)), listed()), script()) as run:
        await until_(lambda: bool(run.told))
        assert run.reflector.progress.failures == 3
        assert run.reflector.is_unreachable


async def test_not_found_is_passed_on_and_takes_nothing_away() -> None:
    watch = script([not_found()], [Hold])
    bodies = lists(listed(service("a")), not_found(), not_found(), listed(service("a"), version="30"))
    async with running(bodies, watch) as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        assert run.missing == 3
        assert run.ports == {"a": 80}
        assert not [c for c in run.told[1:] if c]


async def test_pages_that_expire_are_asked_for_all_at_once() -> None:
    def get(request: Request) -> Reply:
        if "continue" in request.parameters:
            return ApiError(410, "token too old")
        return listed(service("a"), more="t1" if "limit" in request.parameters else "")

    async with running(get, script()) as run:
        await until_(lambda: run.reflector.synced.is_set())
        assert run.seen[:3] == [("list", ""), ("list", "t1"), ("list", "")]


async def test_a_defect_of_ours_does_not_end_it() -> None:
    calls = []

    def get(_: Request) -> Reply:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a defect")
        return listed(service("a"))

    async with running(get, script()) as run:
        await until_(lambda: run.reflector.synced.is_set())


async def test_another_version_goes_on_from_the_same_objects() -> None:
    async with running(lists(listed(service("a"))), script()) as run:
        await until_(lambda: run.reflector.progress.watches == 1)
        before: Object = run.reflector.store.objects["default", "a"]
    run.reflector.use(Resource(kind_named("Service"), "v2"))
    task = asyncio.create_task(run.reflector.run())
    await until_(lambda: run.reflector.progress.watches == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert run.connection.requests[-1].path == "/api/v2/services"
    after = run.reflector.store.objects["default", "a"]
    assert (before.api_version, after.api_version) == ("v1", "v2")


async def test_a_server_that_has_gone_back_is_listed_again() -> None:
    """etcd was restored: a watch from where we were would be silent until the server gets there again."""
    bodies = lists(listed(service("a"), service("b"), version="500"), listed(service("a"), version="80"))
    watch = script([bookmark("510"), UnreachableError("no answer in time")], [Hold])
    async with running(bodies, watch, now="80") as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        assert run.seen == [("list", ""), ("watch", "500"), ("list", ""), ("watch", "80")]
        assert run.ports == {"a": 80}


async def test_a_server_that_is_where_it_was_is_only_watched_again() -> None:
    watch = script([UnreachableError("reset")], [UnreachableError("no answer in time")], [], [Hold])
    async with running(lists(listed(service("a"), version="500")), watch, now="500") as run:
        await until_(lambda: run.reflector.progress.watches == 4)
        assert run.seen == [("list", ""), *[("watch", "500")] * 4]
        assert run.checks == 2, "a watch that ended in order needs no question"


async def test_an_answer_of_410_to_a_watch_means_a_new_list() -> None:
    watch = script([ApiError(410, "gone")], [Hold])
    async with running(lists(listed(service("a")), listed(service("b"), version="30")), watch) as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        assert run.seen[-2:] == [("list", ""), ("watch", "30")]
        assert all("limit" in r.parameters for r in run.connection.requests if not r.is_watch), "it was no page's fault"


async def test_a_first_page_that_is_gone_is_asked_for_again() -> None:
    async with running(lists(ApiError(410, "gone"), listed(service("a"))), script()) as run:
        await until_(lambda: run.reflector.synced.is_set())
        assert run.ports == {"a": 80}


async def test_an_empty_page_with_an_error_after_it_takes_nothing_away() -> None:
    answers = [listed(service("a")), listed(version="20", more="t1"), ApiError(500, "etcd"), listed(service("a"))]
    async with running(lists(*answers), script([EXPIRED], [Hold])) as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        assert [c for c in run.told if c] == run.told[:1]
        assert run.ports == {"a": 80}


async def test_bookmarks_alone_move_on_and_tell_nothing() -> None:
    watch = script([bookmark("20"), bookmark("30")], [Hold])
    async with running(lists(listed(service("a"))), watch) as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        assert run.seen[-1] == ("watch", "30")
        assert len(run.told) == 1


async def test_a_name_that_was_given_again_between_two_lists_has_no_good_version_yet() -> None:
    def made(at: str, **spec: object) -> dict[str, object]:
        return item("a", metadata={"creationTimestamp": at, "uid": at}, spec=spec)

    good, bad = made("2026-01-01T00:00:00Z", ports=[{"port": 80}]), made("2026-01-02T00:00:00Z", ports="none")
    async with running(lists(listed(good), listed(bad, version="30")), script([EXPIRED], [Hold])) as run:
        await until_(lambda: run.reflector.progress.watches == 2)
        assert run.told[-1] == {Ref("Service", "default", "a"): None}
        assert [p.field for p in run.reflector.store.problems()] == ["spec.ports"]


async def test_a_name_that_was_given_again_within_one_batch_has_no_good_version_yet() -> None:
    events = event("DELETED", service("a", version="11")) + event("ADDED", item("a", version="12", spec=[]))
    async with running(lists(listed(service("a"))), script([events, Hold])) as run:
        await until_(lambda: len(run.told) == 2)
        assert run.told[-1] == {Ref("Service", "default", "a"): None}


async def test_a_problem_is_told_even_if_nothing_else_changes() -> None:
    events = [event("MODIFIED", item("a", version="11", spec=[])), event("MODIFIED", service("a", version="12"))]
    async with running(lists(listed(service("a"))), script([*events, Hold])) as run:
        await until_(lambda: len(run.told) == 3)
        assert run.told[1:] == [{}, {}]


async def test_very_large_objects_in_many_pieces() -> None:
    text = event("ADDED", item("b", version="11", metadata={"annotations": {"a": "x" * 3_000_000}}, spec={}))
    pieces = [text[i : i + 1000] for i in range(0, len(text), 1000)]
    async with running(lists(listed(service("a"))), script([*pieces, Hold])) as run:
        await until_(lambda: len(run.reflector.store) == 2)
