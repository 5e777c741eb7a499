"""Rules on the command line: who is refused is told on one line, and a study of the others ends well."""

from functools import partial

import pytest

from tests.scripts.calling import hvgym as called

pytestmark = pytest.mark.usefixtures("no_pictures")

hvgym = partial(called, COLUMNS="200")


REFUSED = "needs memory.reclaim, which esxi lacks"


def test_a_study_in_which_one_is_refused_ends_with_a_leaderboard_and_code_0(tmp_path):
    words = ("suite=micro", "suite.eval_seeds=2", "agents=[senpai]", "rules=default", "study=s", f"runs={tmp_path}")
    out = hvgym("bench", *words, "tracking=none", "workers=1").stdout
    assert "study s: 4 jobs" in out  # of stock and reference
    assert f"senpai is not played: {REFUSED}" in out
    page = (tmp_path / "studies" / "s" / "report.html").read_text()
    assert f"senpai is not played: {REFUSED}" in page
    assert f"senpai is not played: {REFUSED}" in hvgym("report", "s", f"runs={tmp_path}").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "agent=senpai", "scenario=idle-giants-short"), f"agent senpai, scenario idle-giants-short: {REFUSED}"),
        (("evaluate", "agent=senpai", "suite=micro"), f"agent senpai, scenario idle-giants-short: {REFUSED}"),
        (
            ("train", "scenario=idle-giants-short", "hypervisor=baremetal"),
            "agent ppo, scenario idle-giants-short: needs a balloon target, which baremetal lacks",
        ),
        (("tune", "agent=tmo", "suite=micro"), f"agent tmo: plays on none of these 2 scenarios: {REFUSED}"),
        (("demo", "agent=tmo", "scenario=tight-hdd"), f"agent tmo, scenario tight-hdd: {REFUSED}"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_verb_that_would_play_what_is_refused_ends_in_one_line(words, said, tmp_path):
    done = hvgym(*words, "rules=default", f"runs={tmp_path}", code=2)
    assert done.stderr.strip().splitlines() == [f"hvgym: {said}; rules=open opens every channel to everybody"]


@pytest.mark.parametrize("verb", ["bench", "evaluate", "describe"])
def test_a_mistyped_rule_is_told_the_nearest_one(verb, tmp_path):
    error = hvgym(verb, "rules=defualt", f"runs={tmp_path}", code=2).stderr
    assert error == "hvgym: rules='defualt': choose one of default, open (did you mean 'default'?)\n"


def test_describe_shows_what_each_seat_sets_and_reads(tmp_path):
    out = hvgym("describe", "hypervisor=xen", f"runs={tmp_path}").stdout
    assert "rules open: every channel is open to everybody" in out
    inside, outside = " ".join(out.split()).split("outside:")  # lines are folded at the terminal's width
    assert "by the guest's own balloon driver (xen-selfballoon)" in inside
    assert "sets memory_mib (a balloon target) by xe vm-memory-target-set" in outside
    for part in ("grain KiB", "delay squeezed looks each 10 s", "cap dynamic-min to dynamic-max", "source: xapi"):
        assert part in outside
    assert "a guest that does not cooperate: inactive after 5 s" in outside
    assert (
        "reads guest_free_mib, guest_total_mib, stats_age_s; delay 120 s; refreshed each 120 s; source: xe-daemon.go"
        in outside
    )
    assert "reads page_ages; watches pages by page protection; source:" in inside
    assert "not in this model: priority of a disk" in outside


def test_a_tuning_keeps_to_the_scenarios_that_its_agent_plays_and_names_the_others(tmp_path):
    """Proxmox's loop needs a balloon target from outside: KVM has one, ESXi and Hyper-V have not."""
    words = (
        "agent=proxmox",
        "scenario=[mixed-tenants,idle-giants,web-siblings]",
        "rules=default",
        "trials=2",
        "finalists=1",
    )
    done = hvgym(
        "tune", *words, "seeds=1", "seeds_per_report=1", "validation_seeds=1", "tracking=none", f"runs={tmp_path}"
    )
    lines = done.stdout.splitlines()
    assert "idle-giants: proxmox needs a balloon target, which esxi has inside only, so it is not tuned for it" in lines
    assert (
        "web-siblings: proxmox needs a balloon target, which hyperv has inside only, so it is not tuned for it" in lines
    )
    assert any(line.endswith("1 training seeds of each of 1 scenarios") for line in lines)


def test_an_agent_that_plays_on_none_of_several_scenarios_is_refused_with_all_reasons(tmp_path):
    words = ("agent=proxmox", "scenario=[idle-giants,web-siblings]", "rules=default", "tracking=none")
    done = hvgym("tune", *words, f"runs={tmp_path}", code=2)
    (line,) = done.stderr.splitlines()
    assert line == (
        "hvgym: agent proxmox: plays on none of these 2 scenarios: needs a balloon target, which esxi has inside only; needs a "
        "balloon target, which hyperv has inside only; rules=open opens every channel to everybody"
    )
    assert not list(tmp_path.iterdir())
