"""Which file reads which field of a kind: found by the type checker, not claimed by hand.

mypy checks the package with a plugin that is told of every attribute access with the type that has the attribute. What
counts is a read outside `kinds/`; a read within a property, method or function of `kinds/` counts for the files outside
that use it, however indirectly. What only carries a field along, checks it or warns of it does not count.
"""

import ast
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mypy import build
from mypy.config_parser import parse_config_file
from mypy.find_sources import create_source_list
from mypy.options import Options
from mypy.plugin import AttributeContext, FunctionContext, MethodContext, Plugin
from mypy.types import Type, UnionType, get_proper_type

ROOT = Path(__file__).parents[2]
KINDS = "pypilot.kinds."
CHECKED = ("kinds", "wire", "world", "compile", "engine", "sources", "webhook", "injection")
"""The rooms of `pypilot/` where a field can have an effect."""
NOT_CONSUMERS = (
    "pypilot/compile/advice/",  # warns of fields
    "pypilot/compile/routes/delegates.py",  # carries fields from one rule to another
    "pypilot/sources/kubernetes/slimming.py",  # cuts off what is not read
    "pypilot/webhook/",
)
BY_NAME = {
    "pypilot.kinds.mesh_config.ProxyConfig": (
        "pypilot/compile/proxy_settings.py",
        "pypilot/injection/sidecar.py",
        "pypilot/injection/target.py",
        "pypilot/proxy/proxy_config.py",
    )
}
"""Messages that are read as plain data, because they are merged with what a node or a pod brings: the files where that
begins."""

Place = tuple[str, int]


@dataclass
class Accesses:
    """What the type checker saw, by the full name of what was accessed."""

    reads: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))
    calls: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))
    dynamic: set[Place] = field(default_factory=set)
    """`getattr` on a message of a kind with a name that is not written there: nobody could tell which field is read."""


class _Recorder(Plugin):
    """Notes accesses; changes nothing."""

    def __init__(self, options: Options, seen: Accesses) -> None:
        super().__init__(options)
        self._seen = seen

    def _note(self, into: dict[str, set[Place]], fullname: str, path: str, line: int) -> None:
        into[fullname].add((str(Path(path).resolve().relative_to(ROOT)), line))

    def _attribute(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        if not fullname.startswith(KINDS):
            return None

        def hook(found: AttributeContext) -> Type:
            self._note(self._seen.reads, fullname, found.api.path, found.context.line)
            return found.default_attr_type

        return hook

    def _called(self, fullname: str) -> Callable[[Any], Type] | None:
        if not fullname.startswith(KINDS) and fullname != "builtins.getattr":
            return None

        def hook(found: FunctionContext | MethodContext) -> Type:
            if fullname.startswith(KINDS):
                self._note(self._seen.calls, fullname, found.api.path, found.context.line)
            elif any(_is_message(t) for t in found.arg_types[0]):
                place = (str(Path(found.api.path).resolve().relative_to(ROOT)), found.context.line)
                self._seen.dynamic.add(place)
            return found.default_return_type

        return hook

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        return self._attribute(fullname)

    def get_class_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        return self._attribute(fullname)

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return self._called(fullname)

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return self._called(fullname)


def _is_message(given: Type) -> bool:
    given = get_proper_type(given)
    if isinstance(given, UnionType):
        return any(_is_message(part) for part in given.items)
    info = getattr(given, "type", None)
    return info is not None and any(base.fullname == f"{KINDS}base.Spec" for base in info.mro)


def _checked() -> Accesses:
    options = Options()
    parse_config_file(options, lambda: None, str(ROOT / "pyproject.toml"))
    options.incremental, options.cache_dir = False, "/dev/null"
    seen = Accesses()
    sources = create_source_list([str(ROOT / "pypilot" / room) for room in CHECKED], options)
    result = build.build(sources, options, extra_plugins=[_Recorder(options, seen)])
    assert not result.errors, result.errors[:5]
    return seen


def _functions(path: Path, module: str) -> Iterator[tuple[str, int, int]]:
    """Full name, first and last line of the functions and methods of a module that do more than find faults."""

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, int, int]]:
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                yield from walk(statement.body, f"{prefix}.{statement.name}")
            elif isinstance(statement, ast.FunctionDef) and not _only_checks(statement):
                yield f"{prefix}.{statement.name}", statement.lineno, statement.end_lineno or statement.lineno

    yield from walk(ast.parse(path.read_text()).body, module)


def _only_checks(function: ast.FunctionDef) -> bool:
    return function.returns is not None and "Finding" in ast.unparse(function.returns)


def _counts(path: str) -> bool:
    return not path.startswith(("pypilot/kinds/", *NOT_CONSUMERS))


@cache
def consumption() -> tuple[dict[str, frozenset[str]], frozenset[Place]]:
    """`pypilot.kinds.MODULE.CLASS.field` -> the files that read it; and the places where that cannot be told."""
    seen = _checked()
    within: dict[str, list[tuple[str, int, int]]] = {}
    for path in sorted((ROOT / "pypilot/kinds").glob("*.py")):
        module = f"{KINDS}{path.stem}"
        within[str(path.relative_to(ROOT))] = list(_functions(path, module))

    def enclosing(place: Place) -> str | None:
        return next((name for name, first, last in within.get(place[0], ()) if first <= place[1] <= last), None)

    accessed = {name: seen.reads.get(name, set()) | seen.calls.get(name, set()) for name in seen.reads | seen.calls}
    names = {name for functions in within.values() for name, _, _ in functions}
    users: dict[str, set[str]] = {name: set() for name in accessed}
    grew = True
    while grew:  # from the functions that files outside use to the fields that these functions read
        grew = False
        for name, places in accessed.items():
            found = {path for path, _ in places if _counts(path)}
            for place in places:
                if (caller := enclosing(place)) is not None and caller != name:
                    found |= users.get(caller, set())
            if not found <= users[name]:
                users[name] |= found
                grew = True
    dynamic = frozenset(place for place in seen.dynamic if _counts(place[0]))
    return {name: frozenset(files) for name, files in users.items() if name not in names}, dynamic


@cache
def names_in(path: str) -> frozenset[str]:
    """The texts of a file and of those files of the same room that it imports: keys of plain data are among them."""
    tree = ast.parse((ROOT / path).read_text())
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("pypilot.compile."):
            imported = (statement.module or "").replace(".", "/") + ".py"
            texts |= names_in(imported)
    return frozenset(texts)


if __name__ == "__main__":
    found, unknown = consumption()
    print(json.dumps({name: sorted(files) for name, files in sorted(found.items())}, indent=1), unknown)
