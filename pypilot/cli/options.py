"""Click options made from the settings, so that a flag, its variable, its default and its help are written once."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from pypilot.settings import SETTINGS, Settings, SettingsError, default_of, flag_of, read_settings, variable_of

F = TypeVar("F", bound=Callable[..., Any])


def _shown_default(name: str) -> str:
    default = default_of(name)
    if default in (None, "", ()):
        return ""
    text = ("on" if default else "off") if isinstance(default, bool) else f"{default}"
    return f"default: {text}; "


def setting_options(names: Iterable[str]) -> Callable[[F], F]:
    """Decorate a command with the flags of these settings; not given is None, so that the environment may speak."""

    def decorate(command: F) -> F:
        for name in reversed(list(names)):
            setting, flag = SETTINGS[name], flag_of(name)
            text = f"{setting.help}  [{_shown_default(name)}env: {variable_of(name)}]"
            if setting.is_switch:
                option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
            elif setting.choices:
                option = click.option(flag, name, type=click.Choice(setting.choices), default=None, help=text)
            else:
                option = click.option(flag, name, metavar=setting.metavar, default=None, help=text)
            command = option(command)
        return command

    return decorate


def settings_from(flags: dict[str, Any]) -> Settings:
    """Settings of a command line.

    Raises:
        click.UsageError: a value cannot be used.
    """
    try:
        return read_settings(flags)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
