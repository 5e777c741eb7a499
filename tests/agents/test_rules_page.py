"""docs/rules.md is what its command writes."""

import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "docs" / "rules.py"


def test_the_page_of_rules_is_that_of_the_declarations():
    spec = importlib.util.spec_from_file_location("rules_page", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert FILE.with_suffix(".md").read_text() == module.page(), "make rules writes it anew"
