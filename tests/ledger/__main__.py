"""`python -m tests.ledger [--update]`: print the ledger, or write it where it belongs."""

import sys

from tests.ledger.render import render, update
from tests.ledger.rows import defects

if found := defects():
    sys.exit("\n".join(found))
if sys.argv[1:] == ["--update"]:
    update()
else:
    print(render(), end="")
