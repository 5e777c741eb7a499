"""The documentation as a site: it builds without a warning, loads nothing from the network, and its pages are those of the code."""

import contextlib
import dataclasses
import importlib.util
import logging
import re
import shutil
import sys
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from hvgym.scripts import cli, keys

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"page_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


configuration, model = loaded("configuration"), loaded("model")
PAGES = configuration.pages()
CLASSES = [cls for _, _, classes in configuration.PAGES.values() for _, _, cls in classes]
CHAPTERS = sorted((DOCS / "model").glob("*.md"))


def built(docs, folder, **changed):
    logging.disable(logging.NOTSET)
    logging.getLogger("mkdocs").setLevel(logging.INFO)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("mkdocs") and isinstance(logger, logging.Logger):
            logger.disabled = (
                False  # Hydra disables all that are there when a verb has run, and strict counts what they say
            )
    build(load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(folder), strict=True, **changed))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        return built(DOCS, tmp_path_factory.mktemp("site"))


def test_every_page_is_built(site):
    pages = {file.relative_to(DOCS).with_suffix(".html") for file in DOCS.rglob("*.md")}
    assert pages
    assert pages <= {file.relative_to(site) for file in site.rglob("*.html")}


@pytest.mark.parametrize(
    ("page", "text", "fails"),
    [
        ("rules.md", "# Known\n\n## Here", False),
        ("lost.md", "# In no navigation", True),
        ("index.md", "# A link\n\n[there](nowhere.md)", True),
        ("index.md", "# An anchor\n\n[there](rules.md#no-such-heading)", True),
    ],
)
def test_a_page_that_nobody_finds_and_a_link_that_leads_nowhere_fail(page, text, fails, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copyfile(DOCS / "site.css", docs / "site.css")
    (docs / "index.md").write_text("# First\n\n[there](rules.md#here)")
    (docs / "rules.md").write_text("# Known\n\n## Here")
    (docs / page).write_text(text)
    with pytest.raises(Abort) if fails else contextlib.nullcontext():
        built(docs, tmp_path / "site", nav=["index.md", "rules.md"])


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(r"""(?:<(?:script|img|iframe|source)[^>]*\ssrc|<link[^>]*\shref)=["']?(?:https?:)?//""")
    imports = re.compile(r"@import\s|url\(\s*[\"']?(?:https?:)?//")
    assert not [file.name for file in site.rglob("*.html") if loads.search(file.read_text())]
    assert not [file.name for file in site.rglob("*.css") if imports.search(file.read_text())]


def test_equations_are_drawn(site):
    text = (site / "model" / "guest-memory.html").read_text()
    assert text.count("<math") == (DOCS / "model" / "guest-memory.md").read_text().count("```math")
    assert "<mfrac>" in text


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_keys_are_those_of_the_code(name):
    assert (DOCS / "configuration" / f"{name}.md").read_text() == PAGES[name], "make configuration writes it anew"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_key_has_its_words_and_no_words_are_left_over(cls):
    own = [field.name for field in configuration.own_fields(cls)]
    assert own == list(configuration.words_of(cls)), "docs/configuration/words.yaml"


def test_every_class_of_a_scenario_is_on_a_page():
    found, left = set(), [configuration.Scenario]
    while left:
        cls = left.pop()
        found.add(cls)
        kinds = map(configuration.kind, configuration.typing.get_type_hints(cls).values())
        left += [kind for kind in kinds if dataclasses.is_dataclass(kind) and kind not in found]
    assert found <= set(CLASSES)


def test_bounds_and_units_are_those_that_are_checked():
    (row,) = (row for row in configuration.rows(configuration.Workload) if "`episode_s`" in row)
    assert row == "| `episode_s` | s | ≥ 1, whole | `null` | in place of the scenario's |"
    speed = re.search(r"\n\| `speed` .*", PAGES["verbs"].partition("\n## demo\n")[2])
    assert "| ≥ 0 | `120` |" in speed[0]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_of_the_model_hold_what_the_code_says(path):
    text = path.read_text()
    assert model.page(text) == text, "make model-docs writes it anew"


def test_every_file_of_the_model_is_in_one_chapter():
    named = [module for path in CHAPTERS for mark in model.MARK.findall(path.read_text()) for module in mark.split()]
    files = sorted(file for file in model.SOURCES.rglob("*.py") if file != model.SOURCES / "__init__.py")
    assert sorted(map(model.file_of, named)) == files


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_links_lead_to_files_of_the_repository(path):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", path.read_text())
    lost = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not lost


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_names_a_page_that_is_there(verb):
    named = re.findall(r"^guide: (docs/\S+\.md)$", keys.help_text(verb, []), re.MULTILINE)
    assert len(named) == 1
    assert (ROOT / named[0]).is_file()
