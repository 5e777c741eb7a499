"""The guides that are written by hand: their files play, and their commands print what stands there."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from tests.scripts.calling import COMMAND, ended

DOCS = Path(__file__).resolve().parents[1] / "docs"


def loaded():
    spec = importlib.util.spec_from_file_location("guides", DOCS / "guides.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.usefixtures("no_pictures")

guides = loaded()


class Here:
    """In place of `subprocess`: commands of hvgym are called in this process."""

    @staticmethod
    def run(words, cwd, env, **how):
        if words[: len(COMMAND)] != COMMAND:
            return subprocess.run(words, cwd=cwd, env=env, **how)
        return ended(words[len(COMMAND) :], cwd, {key: env[key] for key in env if env[key] != os.environ.get(key)})


@pytest.mark.parametrize("name", guides.GUIDES)
def test_commands_print_what_stands_there(name, tmp_path, monkeypatch):
    monkeypatch.setattr(guides, "subprocess", Here)
    text = (DOCS / f"{name}.md").read_text()
    assert guides.played(text, tmp_path) == text, "make guides writes it anew"


def test_a_command_that_ends_otherwise_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 2, not 0"):
        guides.played("```sh\nhvgym nothing\n```\n", tmp_path)


def test_files_and_outputs_are_taken_from_the_page(tmp_path):
    page = '```python title="a/say.py"\nprint("two")\n```\n\n```sh\npython a/say.py\n```\n\n```text\none\n```\n'
    assert guides.played(page, tmp_path) == page.replace("one", "two")
