"""docs/import.md is what its command writes, and every source stands in it."""

import importlib.util
from pathlib import Path

from hvgym.envs.imports.registry import sources

FILE = Path(__file__).resolve().parents[3] / "docs" / "import.py"


def test_the_page_of_imports_is_that_of_the_sources():
    spec = importlib.util.spec_from_file_location("import_page", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.page()
    assert FILE.with_suffix(".md").read_text() == page, "make import-docs writes it anew"
    assert all(f"### {name}: " in page for name in sources())
