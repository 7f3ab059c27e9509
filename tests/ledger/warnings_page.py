"""The codes as `docs/warnings.md`."""

from pypilot.kinds.codes import CODES, GROUPS, Code
from tests.ledger.consumption import ROOT

PATH = ROOT / "docs" / "warnings.md"

_HEAD = """# Warnings and errors

Generated from `pypilot/kinds/codes.py` by `pytest tests/ledger --update-golden`. Do not edit.

Everything that pypilot finds wrong with a configuration has a code: a short name, and a number that never changes.
Errors reject what they name, and nothing else. Warnings reject nothing; what proxies are sent does not depend on them.

| where | what is shown |
| --- | --- |
| the log | each once, when it appears; `code` is the name |
| `pypilot validate` | `FILE:LINE: warning: OBJECT: FIELD: message [code]`; `-o json` has the number, too |
| `/debug/warnings` | all warnings that hold now, and what the codes mean; select by `?kind=&namespace=&name=&code=` |
| `/debug/problems` | all warnings and errors that hold now |
| `kubectl apply` | what can be said of the object alone (group PP01), by the validating webhook |
| `status.validationMessages` of Istio's objects | all warnings of the object, if `--write-status` is given |

References (group PP02) are judged against everything that is known. `pypilot validate` knows only the given files, so
it also warns of what exists in the cluster alone.

"""


def _section(code: Code) -> str:
    istio = f"\n\nIn `istioctl analyze`: {', '.join(code.istio)}." if code.istio else ""
    return f"### {code.name}\n\n`{code.number}`. {code.meaning}\n\n{code.remedy}{istio}\n"


def render() -> str:
    """The whole text."""
    groups = []
    for prefix, title in GROUPS.items():
        codes = [code for code in CODES.values() if code.number.startswith(prefix)]
        groups.append(f"## {title}\n\n" + "\n".join(map(_section, codes)))
    return _HEAD + "\n".join(groups)
