"""The checklist is kept: every row of what is done has a test, or a reason why not."""

import pytest

from tests.rows import demanded, ids_in, named, open_rows, rows, unnamed


def test_ids_and_ranges_are_found() -> None:
    found = ids_in("as in VS-001 (VS-003…005, XAUTH-010); MY-1")
    assert found == {"VS-001", "VS-003", "VS-004", "VS-005", "XAUTH-010"}


@pytest.mark.parametrize("priority", demanded())
def test_every_row_of_what_is_done_is_named(priority: str) -> None:
    missing = [row.id for row in unnamed(demanded()[priority], [priority]) if row.id not in open_rows()]
    assert not missing, "name them where they are proven, or say in rows_open.yaml why they are not"


def test_only_rows_that_exist_are_open() -> None:
    assert open_rows().keys() <= {row.id for row in rows()}


def test_the_tests_themselves_are_read() -> None:
    assert "tests/golden/routes/matches/in.yaml" in named()["VS-019"]
    assert "tests/parity/proofs.yaml" in named()["RDS-002"]
