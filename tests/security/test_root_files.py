"""The root in a directory: made once, followed, rotated; and never written over (CA-006)."""

import stat
from datetime import UTC, datetime

from structlog.testing import capture_logs

from pypilot.security.root_files import RootFiles
from pypilot.security.x509 import make_root, secret_data
from tests.security.workloads import intermediate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def put(directory, root):
    for name, value in secret_data(root).items():
        if name != "key.pem":
            (directory / name).write_bytes(value)


def looked(directory):
    found = RootFiles(directory, now=lambda: NOW)
    found.look()
    return found


def test_an_empty_directory_gets_a_root_that_only_its_owner_can_use(tmp_path):
    first = looked(tmp_path / "ca")
    assert first.root is not None
    assert first.trouble == ""
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "ca").iterdir()}
    assert modes["ca-key.pem"] == 0o600
    assert modes["root-cert.pem"] == 0o644
    assert looked(tmp_path / "ca").root == first.root


def test_files_that_are_not_whole_are_said_so_and_left_alone(tmp_path):
    (tmp_path / "ca-cert.pem").write_text("nothing")
    with capture_logs() as logs:
        found = looked(tmp_path)
        found.look()
    assert found.root is None
    assert "ca-" in found.trouble
    assert len([entry for entry in logs if entry["log_level"] == "error"]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["ca-cert.pem"]


def test_a_root_is_rotated_with_both_trusted_meanwhile(tmp_path):
    told = []
    old, new = make_root("old", NOW), make_root("new", NOW)
    put(tmp_path, old)
    found = looked(tmp_path)
    found.listen(lambda: told.append(found.root.bundle))
    both = old.bundle + new.bundle
    (tmp_path / "root-cert.pem").write_bytes(both)
    found.look()
    assert found.root.certificate == old.certificate
    (tmp_path / "ca-key.pem").write_bytes(new.key)
    found.look()  # the key of one, the certificate of the other
    assert found.root.certificate == old.certificate
    assert "does not belong" in found.trouble
    (tmp_path / "ca-cert.pem").write_bytes(new.certificate)
    (tmp_path / "cert-chain.pem").unlink()
    found.look()
    assert found.root.certificate == new.certificate
    assert found.trouble == ""
    assert told == [both, both]


def test_an_intermediate_with_its_chain(tmp_path):
    data = intermediate("between")
    for name, value in data.items():
        (tmp_path / name).write_bytes(value)
    found = RootFiles(tmp_path)
    found.look()
    assert found.root.certificate == data["ca-cert.pem"]
    assert found.root.bundle == data["root-cert.pem"]


def test_what_breaks_later_leaves_the_last_good_root(tmp_path):
    put(tmp_path, make_root("old", NOW))
    found = looked(tmp_path)
    before = found.root
    (tmp_path / "ca-key.pem").unlink()
    found.look()
    assert found.root == before
    assert "ca-key.pem is missing" in found.trouble
