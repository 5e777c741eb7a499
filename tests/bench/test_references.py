"""The ends of the score: which play, scores of two seats, where one has none, and the red line where a reference does not hold."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.policy import declared_by
from hvgym.bench.beaten import alarms
from hvgym.bench.jobs import Done
from hvgym.bench.page import Pictures, page
from hvgym.bench.protocol import Protocol
from hvgym.bench.references import CLAIRVOYANT, ends_of, reference_of
from hvgym.bench.rollout import METRICS
from hvgym.bench.suites import Suite, seeds
from hvgym.bench.summary import not_scored, summarise, tabulate
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group, resolve
from hvgym.scripts.bench import print_leaderboard

AGENTS = ("stock", "static", "esx_equal", "admit_ratio", "reference", "reference_outside")
ONE, TWO = "idle-giants-short", "no-guest-swap-short"
FIRST = seeds("test", 2)[0]


def scenario(name=ONE, hypervisor="esxi", rules="default"):
    return resolve(load_group("scenario", name), load_group("hypervisor", hypervisor), rules=rules).to_dict()


def agents(*names):
    return tuple(load_group("agent", name) for name in names)


@pytest.mark.parametrize(
    ("names", "rules", "ends"),
    [
        (("esx_equal", "static"), "default", ["stock", "reference"]),
        (("admit_ratio",), "default", ["stock", "reference_outside"]),
        (("esx_equal", "admit_ratio"), "default", ["stock", "reference", "reference_outside"]),
        (("esx_equal", "proxmox"), "default", ["stock", "reference"]),  # proxmox is refused on esxi
        (("esx_equal", "proxmox"), "open", ["stock", "reference"]),
        (("stock",), "default", ["stock", "reference"]),
        (("stock", "reference_outside"), "default", ["stock", "reference"]),
    ],
)
def test_stock_plays_and_the_reference_of_each_seat_among_those_that_play(names, rules, ends):
    assert ends_of(agents(*names), [scenario(rules=rules)]) == ends


def test_under_open_rules_one_reference_serves_both_seats():
    assert [reference_of(seat, "open") for seat in ("inside", "outside")] == ["reference"] * 2
    assert [reference_of(seat, "default") for seat in ("inside", "outside")] == ["reference", "reference_outside"]


GOODPUT = {
    ONE: {
        "stock": (0.5, 0.6), "static": (0.5, 0.5), "esx_equal": (0.7, 0.8), "admit_ratio": (0.52, 0.6),
        "reference": (0.9, 1.0), "reference_outside": (0.54, 0.64),
    },
    TWO: {
        "stock": (0.8, 0.8), "static": (0.4, 0.4), "esx_equal": (0.85, 0.85), "admit_ratio": (0.8, 0.804),
        "reference": (0.9, 0.9), "reference_outside": (0.805, 0.805),
    },
}  # fmt: skip
"""By hand. In the first scenario references gain 0.4 and 0.04 over stock, in the second 0.1 and 0.005: too little to divide by."""


SUITE = replace(Suite.from_dict(load_group("suite", "micro")), eval_seeds=2, rules="default")
PROTOCOL = Protocol(SUITE, agents(*AGENTS), (scenario(ONE), scenario(TWO)))


def study(goodput=GOODPUT, kills=None, seers=CLAIRVOYANT):
    done = []
    for job in PROTOCOL.in_order():
        agent, place = job.agent["name"], job.scenario["name"]
        rows = []
        for i, seed in enumerate(seeds("test", 2)):
            killed = (kills or {}).get((place, agent), (0, 0))[i]
            row = dict.fromkeys(METRICS, 0.0) | {"goodput": goodput[place][agent][i], "oom_kills": float(killed)}
            rows.append({"eval_seed": seed} | row)
        done.append(Done(job, rows, [], None, "all" if job.agent["name"] in seers else "P0"))
    table = tabulate(PROTOCOL, done)
    return table, summarise(PROTOCOL, table)


def test_each_agent_is_scored_by_the_reference_of_its_seat():
    table, summary = study()
    np.testing.assert_allclose(table.scores["esx_equal"][:, 0], [[0.2 / 0.4, 0.2 / 0.4], [0.5, 0.5]])
    np.testing.assert_allclose(table.scores["static"][:, 0], [[0.0, -0.1 / 0.4], [-4.0, -4.0]])
    np.testing.assert_allclose(table.scores["admit_ratio"][:, 0], [[0.02 / 0.04, 0.0]])
    assert not table.scores["stock"].any()
    for reference in ("reference", "reference_outside"):
        assert table.scores[reference].mean() == pytest.approx(1.0)
    assert {name: summary["agents"][name]["seat"] for name in AGENTS} == {
        name: declared_by(load_group("agent", name)).seat for name in AGENTS
    }


def test_where_one_seat_has_no_score_the_other_still_has():
    table, summary = study()
    assert table.scored == (ONE, TWO)
    assert summary["not_scored"] == {"reference": [], "reference_outside": [TWO]}
    assert summary["agents"]["admit_ratio"]["scenarios"][TWO] == {"score": None, "goodput": pytest.approx(0.802)}
    assert not_scored(summary) == [
        f"{TWO}: reference_outside gains less than 0.01 of goodput over stock there, so nobody is scored by it"
    ]


def test_an_agent_whose_seat_has_no_score_anywhere_is_named_and_the_best_heuristic_is_another():
    low = {place: figures | {"reference_outside": figures["stock"]} for place, figures in GOODPUT.items()}
    _, summary = study(low)
    assert summary["unscored"] == ["admit_ratio", "reference_outside"]
    assert "without a score, for want of such a scenario: admit_ratio, reference_outside" in not_scored(summary)
    assert summary["best_heuristic"] == "esx_equal"


def test_who_sees_the_future_is_no_heuristic_whatever_its_name():
    assert study()[1]["best_heuristic"] == "esx_equal"
    assert study(seers=(*CLAIRVOYANT, "esx_equal"))[1]["best_heuristic"] != "esx_equal"


def test_nothing_scored_at_all_is_an_error():
    flat = {place: dict.fromkeys(AGENTS, (0.5, 0.5)) for place in GOODPUT}
    with pytest.raises(InputError, match=r"no reference gains 0\.01 of goodput over stock in any scenario"):
        study(flat)


def test_a_gap_of_just_a_hundredth_is_scored():
    edge = {place: dict.fromkeys(AGENTS, (0.5, 0.5)) | {"reference": (0.51, 0.51)} for place in GOODPUT}
    assert study(edge)[0].scored == (ONE, TWO)


def test_nobody_beats_a_reference_that_holds():
    assert study()[1]["beaten"] == []
    assert alarms(study()[1]) == []


def test_who_beats_its_reference_is_named_with_scenario_and_worst_seed():
    """By 0.05 and 0.15 of goodput on the second and the first seed; the mean is above 0 in every draw."""
    won = GOODPUT | {TWO: GOODPUT[TWO] | {"esx_equal": (1.05, 0.95)}}
    _, summary = study(won)
    (record,) = summary["beaten"]
    assert (record["agent"], record["reference"], record["scenario"], record["seed"]) == (
        "esx_equal", "reference", TWO, FIRST,
    )  # fmt: skip
    assert record["goodput_difference"] == pytest.approx(0.1)
    (line,) = alarms(summary)
    assert line == (
        f"esx_equal beats reference on {TWO}: +0.1000 of goodput, 95 % interval [+0.0500, +0.1500] excludes 0; most on seed {FIRST}"
    )


def test_a_lead_that_may_be_chance_is_told_so_and_one_that_is_rounding_is_none():
    _, summary = study(GOODPUT | {TWO: GOODPUT[TWO] | {"esx_equal": (0.95, 0.86)}})  # +0.05 and -0.04
    (line,) = alarms(summary)
    assert line.startswith(f"esx_equal beats reference on {TWO}: +0.0050 of goodput")
    assert "includes 0" in line
    assert study(GOODPUT | {TWO: GOODPUT[TWO] | {"esx_equal": (0.9 + 1e-12, 0.9)}})[1]["beaten"] == []


def test_an_agent_of_the_other_seat_beats_nothing_and_stock_is_held_against_every_reference():
    far = GOODPUT | {ONE: GOODPUT[ONE] | {"reference_outside": (0.4, 0.4)}}
    _, summary = study(far)
    assert {(one["agent"], one["reference"]) for one in summary["beaten"]} == {
        ("stock", "reference_outside"), ("admit_ratio", "reference_outside"),
    }  # fmt: skip


def test_a_reference_that_kills_where_an_agent_does_not_is_named_with_the_seed():
    kills = {(ONE, "reference"): (0, 3), (ONE, "esx_equal"): (0, 0), (ONE, "stock"): (1, 1), (ONE, "static"): (0, 1)}
    _, summary = study(kills=kills)
    assert alarms(summary) == [f"esx_equal has no kill where reference on {ONE} has one: seed {FIRST + 1}"]


def test_the_line_is_red_in_the_terminal_and_in_the_report(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    won = study(GOODPUT | {TWO: GOODPUT[TWO] | {"esx_equal": (1.05, 0.95)}})[1]
    (line,) = alarms(won)
    print_leaderboard(won)
    assert f"\x1b[1;31m{line}\x1b[0m" in capsys.readouterr().out
    assert f'<p class="red"><strong>{line}</strong></p>' in page(PROTOCOL, won, Pictures({}))
    held = study()[1]
    print_leaderboard(held)
    assert "\x1b[1;31m" not in capsys.readouterr().out
    assert '<p class="red">' not in page(PROTOCOL, held, Pictures({}))


@pytest.mark.parametrize("columns", ["80", "160"])
def test_the_leaderboard_shows_seats_and_cuts_no_word_short(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    print_leaderboard(study()[1])
    out = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    lines = [line.split() for line in out.splitlines()]
    seats = {line[0]: line[1] for line in lines if line and line[0] in AGENTS}
    assert seats == {name: "in" if name in ("static", "esx_equal", "reference") else "out" for name in AGENTS}
