"""The cache of compiled code: damaged files are made anew, and a place that cannot be written costs time, not the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvgym.envs.model.compiled import entry
from hvgym.envs.model.host import cpu

PROGRAM = """
from hvgym.envs.model import compiled
from pathlib import Path
import sys
@compiled.compiled
def twice(x):
    return 2.0 * x
print(twice(21.0), twice.stats.cache_hits[()] if () in twice.stats.cache_hits else sum(twice.stats.cache_hits.values()))
"""


@pytest.fixture
def program(tmp_path):
    """A program of one compiled function, run in a process of its own; what it printed."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(**variables):
        environment = {
            key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
        }
        done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True,
                              env=environment | {"HOME": str(tmp_path / "home")} | variables)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split(), done.stderr

    return run


def files(folder: Path, ending: str) -> list[Path]:
    found = sorted(folder.rglob(f"*.{ending}"))
    assert found
    return found


def test_the_second_run_finds_what_the_first_compiled(program, tmp_path):
    assert program() == (["42.0", "0"], "")
    assert program() == (["42.0", "1"], "")
    assert files(tmp_path / "home", "nbc")[0].is_relative_to(tmp_path / "home" / ".cache" / "hvgym")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    return b""


def zeros_at_the_end(content: bytes) -> bytes:
    """As a crash of the machine leaves a file: its length is there, its content is not."""
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


def one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("ending", "damage"), [("nbi", empty), ("nbc", cut), ("nbc", zeros_at_the_end), ("nbc", one_bit)]
)
def test_a_damaged_file_is_made_anew(program, tmp_path, ending, damage):
    program()
    for file in files(tmp_path / "home", ending):
        file.write_bytes(damage(file.read_bytes()))
    assert program() == (["42.0", "0"], "")
    assert program() == (["42.0", "1"], "")


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"])
def test_where_nothing_can_be_written_code_is_compiled_in_memory_and_one_line_says_so(program, tmp_path, variable):
    (tmp_path / "file").write_text("no folder can be made below a file")
    printed, error = program(**{variable: str(tmp_path / "file" / "below")})
    assert printed == ["42.0", "0"]
    assert error.startswith("hvgym: compiled code cannot be kept (")
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("*.nbc"))


def test_the_code_of_an_entry_answers_as_its_function_without_looking_at_types():
    before = len(cpu.ready_per_cpu_s.signatures)
    code = entry(cpu.ready_per_cpu_s, 8.0, 0.9)
    assert code(8.0, 0.9) == cpu.ready_per_cpu_s(8.0, 0.9) > 0.0
    assert entry(cpu.ready_per_cpu_s, 4.0, 0.7) is not None
    assert len(cpu.ready_per_cpu_s.signatures) <= before + 1
