"""`pypilot token`: what it makes is what `serve --token-keys` takes."""

import stat

from click.testing import CliRunner

from pypilot.cli.main import main
from pypilot.security.token_keys import TokenKeys


def run(*argv):
    return CliRunner().invoke(main, ["token", *map(str, argv)])


async def test_a_minted_token_is_taken(tmp_path):
    key, jwks = tmp_path / "key.pem", tmp_path / "keys.json"
    assert run("keys", "--key", key, "--jwks", jwks).exit_code == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    made = run("mint", "--key", key, "--namespace", "shop", "--service-account", "web")
    assert made.exit_code == 0, made.output
    bearer = await TokenKeys(jwks).review(made.stdout.strip())
    assert bearer.username == "system:serviceaccount:shop:web"


def test_a_key_is_never_written_over(tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("mine")
    made = run("keys", "--key", key, "--jwks", tmp_path / "keys.json")
    assert made.exit_code == 1
    assert "File exists" in made.output
    assert key.read_text() == "mine"


def test_a_file_that_is_no_key_is_said_so(tmp_path):
    (tmp_path / "key.pem").write_text("nothing")
    made = run("mint", "--key", tmp_path / "key.pem", "--namespace", "shop")
    assert made.exit_code == 1
    assert "not an unencrypted PEM key" in made.output
