"""The parts that need no network, put together: settings to engine, files to world. `app` adds the servers."""

import time
from collections.abc import Mapping

from pypilot.compile.advice import ADVISERS
from pypilot.engine.last_good import CredentialGuard
from pypilot.engine.loop import Debounce, Engine, Generator
from pypilot.settings import Settings
from pypilot.sources.files import FileSource
from pypilot.sources.intake import Intake
from pypilot.world.delta import Problem
from pypilot.world.world import Constants

FILES = "files"
CLUSTER = "the cluster"
"""The names of the sources."""


def constants_of(settings: Settings) -> Constants:
    """The part of the settings that resources depend on."""
    return Constants(
        domain=settings.cluster_domain,
        cluster_id=settings.cluster_id,
        root_namespace=settings.root_namespace,
        revision=settings.revision,
        allocates=not settings.kubernetes,
        ambient=settings.ambient,
        key_fetching=settings.jwks_fetching,
        several_authorizers=settings.several_authorizers,
        compliance=settings.compliance_policy,
    )


def make_engine(settings: Settings, generators: Mapping[str, Generator]) -> Engine:
    """An engine over an empty world, which lets no credential in that cannot be served."""
    debounce = Debounce(quiet=settings.debounce_quiet, longest=settings.debounce_max)
    return Engine(generators, constants_of(settings), debounce, CredentialGuard(time.time), advisers=ADVISERS)


def load(settings: Settings, generators: Mapping[str, Generator]) -> tuple[Engine, tuple[Problem, ...]]:
    """The engine over what the configured files say now, and all problems at the lines of their fields."""
    source = FileSource(settings.config, settings.mesh_config)
    engine = make_engine(settings, generators)
    update = source.initial()
    delta = Intake(engine.world.constants, [FILES]).admit(FILES, update.delta)
    engine.load(delta, FILES, update.problems)
    known = set(update.problems)
    return engine, tuple(p if p in known else source.locate(p) for p in engine.problems())
