"""The working copy of the demo's YAML."""

import stat
import tempfile
from pathlib import Path

import pytest
import yaml

from pypilot.cli.demo.stage import BACKENDS, GATEWAY_HTTP, GATEWAY_HTTPS
from pypilot.cli.demo.steps_egress import ALLOW_ANY, BANK, BANK_AUTHORITY_PATH, PARTNER
from pypilot.cli.demo.steps_gateway import ROUTES_FILE
from pypilot.cli.demo.workspace import find_yaml, substitute, workspace


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("port: 18081\n", "port: 9\n"),
        ("port: 180810\n", "port: 180810\n"),
        ("- 127.0.0.1\n- 127.0.0.11\n", "- 127.0.0.1\n- 127.0.0.99\n"),
        ("127.0.0.11:18081", "127.0.0.99:9"),
        ("ca: /etc/ca.pem # x", "ca: /tmp/x/ca.pem # x"),
        ("ca: /etc/ca.pem.old", "ca: /etc/ca.pem.old"),
    ],
)
def test_whole_words_are_replaced(text: str, want: str) -> None:
    assert substitute(text, {"18081": "9", "127.0.0.11": "127.0.0.99", "/etc/ca.pem": "/tmp/x/ca.pem"}) == want


def test_without_replacements_the_copy_is_the_same_and_the_repository_is_not_touched() -> None:
    source, changes = find_yaml("demo"), find_yaml("demo-changes")
    before = {f: f.read_text() for d in (source, changes) for f in d.glob("*.yaml")}
    with workspace(source, changes, {}) as work:
        assert {f.name: f.read_text() for f in work.config.iterdir()} == {
            f.name: f.read_text() for f in source.iterdir()
        }
        work.edit(ROUTES_FILE, {"weight: 0\n": "weight: 80\n", "weight: 100\n": "weight: 20\n"})
        assert "weight: 80\n" in (work.config / ROUTES_FILE).read_text()
        work.add("partner.yaml")
        work.remove("partner.yaml")
        assert not (work.config / "partner.yaml").exists()
        root = work.root
    assert not root.exists()
    assert {f: f.read_text() for f in before} == before


def test_an_edit_that_does_not_fit_leaves_the_file_alone() -> None:
    with workspace(find_yaml("demo"), find_yaml("demo-changes"), {}) as work:
        before = (work.config / ROUTES_FILE).read_text()
        with pytest.raises(ValueError, match="occurs 0 times"):
            work.edit(ROUTES_FILE, {"weight: 0\n": "weight: 80\n", "weight: 77\n": "weight: 20\n"})
        with pytest.raises(ValueError, match="occurs 2 times"):
            work.edit(ROUTES_FILE, {"host: shop\n        subset": "x"})
        assert (work.config / ROUTES_FILE).read_text() == before


def test_secrets_are_for_the_owner_and_are_not_among_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run() -> None:
        with workspace(find_yaml("demo"), find_yaml("demo-changes"), {}) as work:
            path = work.write("secret.yaml", "tls.key: x\n")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(work.config.stat().st_mode) == 0o700
            (work.directory("gateway") / "gateway.err").write_text("log")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError) as caught:
        run()
    logs = Path(caught.value.__notes__[0].removeprefix("logs: "))
    assert [str(p.relative_to(logs)) for p in logs.rglob("*") if p.is_file()] == ["gateway/gateway.err"]
    assert list(tmp_path.iterdir()) == [logs]


def test_the_yaml_says_what_the_steps_rely_on() -> None:
    text = "".join(f.read_text() for f in find_yaml("demo").glob("*.yaml"))
    for (host, port), _ in BACKENDS:
        assert text.count(f"podIP: {host}\n") == 1
        assert text.count(f"port: {port}\n") == 1
    for _, port in (GATEWAY_HTTPS, GATEWAY_HTTP):
        assert text.count(f"number: {port}\n") == 1
    assert text.count(ALLOW_ANY) == 1
    changes = {f.name: f.read_text() for f in find_yaml("demo-changes").glob("*.yaml")}
    assert changes["bank-tls.yaml"].count(BANK_AUTHORITY_PATH) == 1
    for (host, address), name in ((PARTNER, "partner.yaml"), (BANK, "bank.yaml")):
        entry = yaml.safe_load(changes[name])
        assert entry["spec"]["hosts"] == [host]
        assert entry["spec"]["endpoints"] == [{"address": address}]


def test_only_the_file_that_should_be_is_no_yaml() -> None:
    for file in [*find_yaml("demo").glob("*.yaml"), *find_yaml("demo-changes").glob("*.yaml")]:
        if file.name == "broken-syntax.yaml":
            with pytest.raises(yaml.YAMLError):
                list(yaml.safe_load_all(file.read_text()))
        else:
            assert all(d["kind"] for d in yaml.safe_load_all(file.read_text()))
