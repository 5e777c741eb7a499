"""``hvgym demo`` as a user has it: keys on a terminal, two agents side by side, a GIF, and the terminal as it was."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
from PIL import Image

from hvgym.envs.backends import simulator
from hvgym.envs.scenario import load
from hvgym.scripts import cli, stage
from hvgym.scripts.keyboard import Keyboard

COMMAND = [sys.executable, "-m", "hvgym.scripts.cli", "demo"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b.")


class Terminal:
    """The verb on a terminal of its own, of 80 columns and 24 lines."""

    def __init__(self, *words, cwd):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 80))
        self.before = termios.tcgetattr(self.slave)
        env = {**os.environ, "TERM": "xterm"}
        for name in ("COLUMNS", "LINES", "CI", "NO_COLOR", "FORCE_COLOR"):
            env.pop(name, None)
        own_terminal = (
            "import os, sys, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", own_terminal, *COMMAND, *words],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, cwd=cwd, env=env,
        )  # fmt: skip
        self.text = ""

    def read(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0 and select.select([self.master], [], [], left)[0]:
            self.text += os.read(self.master, 65536).decode(errors="replace")
        return self.text

    def until(self, condition, seconds=90):
        end = time.monotonic() + seconds
        while not condition(self.shown()):
            assert time.monotonic() < end, self.shown()[-2000:]
            self.read(0.05)

    def shown(self):
        return ESCAPES.sub("", self.text)

    def clock_s(self):
        minutes, seconds = re.findall(r"under proxmox +(\d+):(\d\d)", self.shown())[-1]
        return 60 * int(minutes) + int(seconds)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def ends(self, code):
        end = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < end
            self.read(0.05)
        self.read(0.2)
        assert self.process.returncode == code, self.shown()[-1000:]
        assert termios.tcgetattr(self.slave) == self.before
        assert self.text.count("\x1b[?1049h") == self.text.count("\x1b[?1049l")
        assert self.text.rindex("\x1b[?25h") > self.text.rindex("\x1b[?25l")


@pytest.fixture
def terminal(tmp_path):
    made = []

    def make(*words):
        made.append(Terminal(*words, cwd=tmp_path))
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(ProcessLookupError):
            one.process.kill()
        one.process.wait()
        os.close(one.master)
        os.close(one.slave)


def test_keys_pause_step_change_the_speed_and_quit(terminal):
    demo = terminal("speed=60")
    demo.until(lambda text: "q quits" in text and "under proxmox" in text)
    assert not termios.tcgetattr(demo.slave)[3] & (termios.ICANON | termios.ECHO)
    demo.press(" ")
    demo.until(lambda text: "space goes on" in text)
    demo.read(0.5)
    paused_s = demo.clock_s()
    demo.read(0.6)
    assert demo.clock_s() == paused_s
    demo.press("s")
    demo.until(lambda text: demo.clock_s() == paused_s + 5)
    demo.press("\x1b[C")
    demo.until(lambda text: demo.clock_s() == paused_s + 10)
    demo.press("+")
    demo.until(lambda text: "+ - 120 x" in text)
    demo.press("-")
    demo.press("-")
    demo.until(lambda text: "+ - 30 x" in text)
    demo.press("++++")
    demo.press(" ")
    demo.until(lambda text: demo.clock_s() > paused_s + 60)
    demo.press("q")
    demo.ends(0)
    assert "goodput so far" in demo.shown()[-2500:]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_the_terminal_is_as_it_was_when_the_demo_is_interrupted(terminal, number, code):
    demo = terminal("speed=60")
    demo.until(lambda text: "q quits" in text)
    demo.process.send_signal(number)
    demo.ends(code)


def test_an_interrupt_that_is_lost_in_a_callback_ends_the_demo_at_the_next_step():
    scenario = load("no-guest-swap-short")
    sim = simulator(scenario)
    sim.reset([0])
    sim.advance(5)
    before = signal.getsignal(signal.SIGINT)

    def interrupted():
        with stage.stage(scenario, 0, ["lost"], 0.0) as shown_on:
            shown_on.show(sim)
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            shown_on.show(sim)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_terminal_is_as_it_was_when_the_demo_fails(terminal, tmp_path):
    (tmp_path / "conf" / "agent").mkdir(parents=True)
    (tmp_path / "conf" / "agent" / "fails.py").write_text(
        "from hvgym.agents.policy import Policy\n\n\nclass Fails(Policy):\n    def decide(self, telemetry):\n"
        "        if telemetry.time_s[0] > 60:\n            raise RuntimeError('enough')\n"
        "        from hvgym.envs.telemetry import Targets\n        return Targets()\n"
    )
    (tmp_path / "conf" / "agent" / "fails.yaml").write_text("name: fails\n_target_: fails.Fails\n")
    demo = terminal("agent=fails", "speed=0", "--config-dir", "conf")
    demo.ends(2)
    assert "enough" in demo.shown()


def test_an_episode_that_ends_leaves_its_last_picture(terminal):
    demo = terminal("speed=0", "seconds=100")
    demo.ends(0)
    last = demo.text.rpartition("\x1b[?1049l")[2]
    assert "1:40 of 1:00:00" in ESCAPES.sub("", last)


def test_nothing_is_read_where_input_is_no_terminal(tmp_path):
    command = [*COMMAND, "speed=0", "seconds=50"]
    done = subprocess.run(command, input="qqqq", capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0:50 of 1:00:00" in done.stdout
    assert "q quits" not in done.stdout
    assert done.stdout.endswith("\n")


def test_a_keyboard_reads_letters_and_arrows_one_by_one():
    read, write = os.pipe()
    keys = Keyboard(read)
    assert keys.key(0.0) == ""
    os.write(write, b" s\x1b[C\x1b[A+")
    assert [keys.key(0.1) for _ in range(6)] == ["space", "s", "right", "", "+", ""]
    os.close(write)
    assert keys.key(0.1) == "q"
    os.close(read)


def test_speeds_go_up_to_as_fast_as_possible_and_back():
    pace = stage.Pace(1200.0)
    for _ in range(3):
        pace.press("+")
    assert pace.speed == 0.0
    assert pace.left_s(1e9) == 0.0
    pace.press("-")
    assert pace.speed == 3600.0
    for _ in range(20):
        pace.press("-")
    assert pace.speed == 1.0
    assert 8.0 < pace.left_s(10.0) <= 10.0


def test_a_step_is_one_step_and_pauses():
    pace = stage.Pace(60.0)
    pace.press("s")
    assert pace.left_s(5.0) == 0.0
    pace.stepped(5.0)
    assert pace.paused
    assert pace.left_s(5.0) > 0.0


def run(capfd, *words, code=0):
    assert cli.main(["demo", *words]) == code
    return capfd.readouterr()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_agents_stand_side_by_side_on_the_same_demand(here, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    text = run(capfd, "agent=[proxmox,static]", "speed=0", "seconds=300").out
    left, right = ([line.partition(" │ ")[i] for line in text.splitlines()] for i in (0, 2))
    alone = run(capfd, "agent=static", "speed=0", "seconds=300").out
    goodput = re.search(r"under static.*goodput so far (\S+)", alone)[1]
    assert left[0].startswith("proxmox   5:00")
    assert re.search(rf"^static +5:00 of 1:00:00   goodput so far {goodput}", right[0])
    assert any(line.startswith("giant/1") and "○" in line for line in left)
    assert any(line.startswith("giant/1") and "○" not in line for line in right)
    assert max(map(len, text.splitlines())) <= 160


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agent=[proxmox,esx,static]"], "expected one or two names"),
        (["agents=[proxmox,proxmox]"], "expected one or two names, not the same one twice"),
        (["agents=[proxmox,static]", "agent=esx"], "agent=esx: stands beside agents=proxmox,static"),
        (["agent=[proxmox,statc]"], "statc"),
        (["record=out.mp4"], "record=out.mp4: expected a file that ends in .gif"),
    ],
)
def test_words_that_are_wrong(here, words, message, capfd):
    assert message in run(capfd, *words, code=2).err
    assert list(here.iterdir()) == []


def test_a_gif_is_of_what_was_played(here, capfd):
    text = run(capfd, "scenario=no-guest-swap-short", "agent=stock", "speed=0", "seconds=100", "record=out.gif").out
    assert text.endswith(f"{here / 'out.gif'}\n")
    every = -(-load("no-guest-swap-short").duration_s // 5 // 150)
    with Image.open(here / "out.gif") as film:
        assert film.n_frames == -(-20 // every)
        assert film.size == (640, 480)


def test_a_gif_of_two_has_both_pictures(here, capfd):
    words = ("scenario=no-guest-swap-short", "speed=0", "seconds=200")
    run(capfd, *words, "agent=[stock,proxmox]", "record=both.gif")
    run(capfd, *words, "agent=proxmox", "record=one.gif")
    with Image.open(here / "both.gif") as both, Image.open(here / "one.gif") as one:
        assert both.size == (1280, 480)
        assert both.n_frames == one.n_frames
        both.seek(both.n_frames - 1)
        one.seek(one.n_frames - 1)
        right, alone = both.convert("RGB").crop((640, 0, 1280, 480)), one.convert("RGB")
        differing = sum(a != b for a, b in zip(right.tobytes(), alone.tobytes(), strict=True))
        assert differing < 0.02 * 640 * 480 * 3  # 256 colours for both pictures together
        assert right.tobytes() != both.convert("RGB").crop((0, 0, 640, 480)).tobytes()


def test_a_gif_of_a_cluster_has_its_events(here, capfd):
    run(capfd, "scenario=n-plus-one", "agent=stock", "speed=0", "seconds=300", "record=out.gif")
    with Image.open(here / "out.gif") as film:
        assert film.n_frames >= 5
        film.seek(film.n_frames - 1)
        assert film.convert("L").getextrema()[1] > 200
