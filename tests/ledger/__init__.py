"""The ledger of Istio's API fields (`docs/api-coverage.md`): what consumes each, or what a user is told.

`python -m tests.ledger --update` writes it; `test_ledger.py` fails with the difference when it is stale.
"""
