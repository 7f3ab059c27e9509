import json
import subprocess
import sys

from click.testing import CliRunner

from pypilot import __version__
from pypilot.cli.main import COMMANDS, main


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, args)
    return result.exit_code, result.stdout, result.stderr


def test_help_lists_every_command_without_importing_any() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['pypilot', '--help']\n"
        "from pypilot.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code\n"
        "heavy = {'grpc', 'aiohttp', 'envoy', 'rich', 'structlog', 'yaml', 'msgspec', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    for name, entry in COMMANDS.items():
        assert name in done.stdout
        assert entry.help in done.stdout


def test_every_command_has_help_of_its_own() -> None:
    for name in COMMANDS:
        code, out, _ = run(name, "--help")
        assert code == 0
        assert "--help" in out
        assert out.startswith(f"Usage: main {name}")


def test_an_unknown_command_names_the_known_ones() -> None:
    code, _, err = run("server")
    assert code == 2
    assert "serve, compile, validate" in err


def test_version() -> None:
    assert run("version")[1] == f"pypilot {__version__}\n"
    assert json.loads(run("version", "-o", "json")[1])["version"] == __version__
    assert __version__ in run("--version")[1]


def test_serve_needs_something_to_serve_and_settings_that_hold() -> None:
    code, _, err = run("serve")
    assert code == 2
    assert "--config" in err
    code, _, err = run("serve", "--config", ".", "--grpc-addr", "nowhere")
    assert code == 2
    assert "--grpc-addr" in err


def test_the_help_of_serve_names_variables_and_defaults() -> None:
    out = " ".join(run("serve", "--help")[1].split())
    assert "127.0.0.1:15010; env: PYPILOT_GRPC_ADDR" in out
    assert "--ambient / --no-ambient" in out
