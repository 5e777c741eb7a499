"""Comparisons by hand: small tables of goodput, no study played."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from hvgym.bench import comparison_table
from hvgym.bench.comparison import Study, compare
from hvgym.bench.protocol import Protocol
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError


def study(name="s", goodput=None, scenarios=("x",), best="low", **changes):
    """One scenario or more of a VM alone; goodput by agent, one list of evaluation seeds for all scenarios."""
    goodput = goodput or {"low": [0.1] * 12, "high": [0.3, 0.2] * 6, "same": [0.1, 0.1 + 1e-4, 0.1 - 1e-4] * 4}
    plain = tuple(
        {"name": one, "vms": [{"name": f"vm-of-{one}", "demand": {"hot_mib": 1.0}}], "episode_s": 60}
        for one in scenarios
    )
    agents = tuple({"name": agent} for agent in goodput)
    suite = Suite("suite", "", scenarios, tuple(goodput), eval_seeds=12)
    protocol = replace(Protocol(suite, agents, plain, {"code": "one"}), **changes)
    arrays = {agent: np.array([np.atleast_2d(of_it)] * len(scenarios), float) for agent, of_it in goodput.items()}
    return Study(name, protocol, arrays, best)


def by_name(found):
    return {row.name: row for row in found.rows}


def test_one_study_against_its_best_heuristic_by_hand():
    found = compare([study()])
    assert [row.name for row in found.rows] == ["high", "same"]  # the best first
    high, same = found.rows
    # 12 differences, six of 0.2 and six of 0.1: of 4096 sign patterns the observed one and its mirror are as extreme
    assert high.difference.mean == pytest.approx(0.15)
    assert high.difference.p_value == 2 / 4096
    assert high.p_holm == 4 / 4096  # two rows
    assert high.improvement.value == 1.0
    assert (high.verdict, high.more) == ("better", "")
    assert (high.scenarios, high.seeds) == (1, 12)
    assert (same.verdict, same.more) == ("no difference shown", ">10,000")
    assert same.improvement.value == pytest.approx(0.5)
    assert any("low was chosen as the best heuristic by the same rows" in note for note in found.notes)


def test_an_agent_that_is_named_beforehand_is_compared_with():
    found = compare([study()], to="high")
    assert {(row.name, row.verdict) for row in found.rows} == {("same", "worse"), ("low", "worse")}
    assert not any("was chosen" in note for note in found.notes)
    assert [row.name for row in compare([study()], to="high", agents=["low"]).rows] == ["low"]
    assert compare([study()], to="high", agents=["low"]).rows[0].p_holm == 2 / 4096  # alone, so not corrected


def test_a_margin_says_what_is_equivalent():
    found = by_name(compare([study()], margin=0.01))
    assert found["same"].verdict == "equivalent within 0.01"
    assert found["high"].verdict == "better"
    assert by_name(compare([study()], margin=0.5))["high"].verdict == "better, by less than 0.5"
    assert by_name(compare([study()], to="high", margin=0.5))["low"].verdict == "worse, by less than 0.5"


def test_nothing_is_equivalent_where_intervals_of_so_few_seeds_are_too_narrow():
    """Of 4 pairs no p-value is below 2 / 16, of 6 one of 2 / 64 is."""
    of_four, of_six = ({"low": [0.1] * seeds, "same": [0.1001, 0.0999] * (seeds // 2)} for seeds in (4, 6))
    found = compare([study(goodput=of_four)], margin=0.01)
    assert found.rows[0].verdict == "no difference shown"
    assert any("Intervals of so few seeds are too narrow" in note for note in found.notes)
    found = compare([study(goodput=of_six)], margin=0.01)
    assert found.rows[0].verdict == "equivalent within 0.01"
    assert not any("too narrow" in note for note in found.notes)


def test_seeds_still_needed_by_hand():
    # mean 0.05, root mean square 0.1118, spread 0.1045 (12 seeds, ddof 1): (1.96 x .1118 + .8416 x .1045)**2 / .05**2 = 37.7
    goodput = {"low": [0.0] * 12, "maybe": [0.15, -0.05] * 6}
    (row,) = compare([study(goodput=goodput)]).rows
    assert row.needed == 38
    assert row.more == "26"
    # at half the level where there are two rows, 2.241 in place of 1.96: 45.8
    too = {"too": goodput["maybe"][::-1]}
    assert compare([study(goodput=goodput | too)]).rows[0].needed == 46


def test_rows_that_are_alike_to_the_bit_are_one_hypothesis():
    """Three copies of one agent, and two of the other one: two hypotheses, where Holm would count five."""
    goodput = {"low": [0.1] * 12, "high": [0.3, 0.2] * 6, "again": [0.3, 0.2] * 6, "too": [0.3, 0.2] * 6}
    found = by_name(compare([study(goodput=goodput | {"stock": [0.1] * 12, "static": [0.1] * 12})]))
    assert {found[name].p_holm for name in ("high", "again", "too")} == {4 / 4096}
    assert {found[name].verdict for name in ("stock", "static")} == {"alike to the bit"}
    plain = by_name(compare([study(goodput={name: goodput[name] for name in ("low", "high")} | {"stock": [0.1] * 12})]))
    assert plain["high"].needed == found["high"].needed


def test_training_seeds_are_averaged_for_the_test_and_stand_in_the_interval():
    demand = np.linspace(0.5, 0.6, 12)
    goodput = {"low": demand, "learned": [demand, demand + 0.2]}
    (row,) = compare([study(goodput=goodput)]).rows
    assert row.difference.mean == pytest.approx(0.1)
    assert (row.difference.lo, row.difference.hi) == pytest.approx((0.0, 0.2))
    assert row.difference.p_value == 2 / 4096


def test_across_studies_an_agent_is_compared_with_itself_on_what_both_have():
    ours = study("ours", {"a": [0.3] * 12, "new": [0.3] * 12}, ("x", "y"))
    theirs = study("theirs", {"a": [0.1, 0.2] * 4, "old": [0.1] * 8}, ("x", "z"), sources={"code": "two"})
    found = compare([theirs, ours])
    (row,) = found.rows
    assert (row.name, row.other) == ("a (ours)", "a (theirs)")
    assert (row.scenarios, row.seeds) == (1, 8)
    assert row.difference.mean == pytest.approx(0.15)
    assert row.verdict == "better"
    for line in (
        "ours was played by other code of hvgym than theirs.", "y is left out: theirs does not have it.",
        "z is left out: ours does not have it.",
        "Evaluation seeds of ours beyond the first 8 are left out: the other has no more.",
        "new is left out: theirs does not have it.", "old is left out: ours does not have it.",
    ):  # fmt: skip
        assert line in found.notes
    with pytest.raises(InputError, match=r"nothing to compare; .*new is left out: theirs does not have it"):
        compare([theirs, ours], agents=["new"])
    assert not any("old is left out" in note for note in compare([theirs, ours], agents=["a"]).notes)
    assert not any(note.startswith("new is left") for note in compare([theirs, ours], to="old").notes)
    rows = compare([theirs, ours], to="old").rows
    assert [row.name for row in rows] == ["a (ours)", "new (ours)", "a (theirs)"]
    assert {row.other for row in rows} == {"old (theirs)"}


def test_scenarios_whose_demand_differs_are_left_out_and_other_differences_are_said():
    one, two = study("one"), study("two")
    hosts = [scenario | {"hypervisor": {"name": "kvm"}} for scenario in two.protocol.scenarios]
    other_host = replace(two, protocol=replace(two.protocol, scenarios=tuple(hosts)))
    found = compare([one, other_host])
    assert "x differs between one and two in hypervisor." in found.notes
    assert {(row.difference.mean, row.verdict, row.more) for row in found.rows} == {(0.0, "alike to the bit", "")}
    for change, key in (
        ({"episode_s": 90}, "episode_s"),
        ({"vms": [{"name": "vm-of-x", "demand": {"hot_mib": 2.0}}]}, "vms.demand"),
    ):
        changed = tuple(scenario | change for scenario in two.protocol.scenarios)
        with pytest.raises(
            InputError, match=rf"one, two: nothing to compare; x is left out: one and two differ in {key}"
        ):
            compare([one, replace(two, protocol=replace(two.protocol, scenarios=changed))])


def with_traces(name, path, digest, **of_scenario):
    """A study of one scenario that replays traces. digest: of them, None as where they were not found."""
    one = study(name)
    workload = {"kind": "bitbrains", "path": path}
    plain = tuple(scenario | {"workload": workload} for scenario in one.protocol.scenarios)
    sources = {"code": "one"} | ({f"traces {path}": digest} if digest else {})
    return replace(one, protocol=replace(one.protocol, scenarios=plain, sources=sources, **of_scenario))


def test_traces_are_the_same_by_their_content_wherever_they_lie():
    one = with_traces("one", "traces", "aa")
    with pytest.raises(InputError, match="x is left out: one and two differ in traces, and so in demand"):
        compare([one, with_traces("two", "traces", "bb")])
    assert compare([one, with_traces("two", "elsewhere", "aa")]).rows
    with pytest.raises(InputError, match="differ in workload"):  # where content is not known, the place counts
        compare([one, with_traces("two", "elsewhere", None)])
    played_before = {"x": {"code": "one", "traces traces": "aa"}}
    assert compare([one, with_traces("two", "traces", "bb", sources_of=played_before)]).rows


def test_other_code_of_an_agents_own_is_said():
    found = compare([study("one", codes={"high": "a", "low": "c"}), study("two", codes={"high": "b", "low": "c"})])
    said = [note for note in found.notes if "other code of its own" in note]
    assert said == ["high was played by other code of its own in two than in one."]


def test_seeds_that_cannot_show_a_difference_are_said():
    def doubts(found):
        return [note for note in found.notes if "cannot show a difference" in note]

    demand = np.linspace(0.5, 0.6, 5)
    goodput = {"low": demand, "high": demand + 0.2, "mid": demand + 0.1}
    (line,) = doubts(compare([study(goodput=goodput)]))
    # of 32 sign patterns two are as extreme, and there are two comparisons; 7 seeds: 4 / 128
    assert line.startswith("5 evaluation seeds cannot show a difference at 5%, however large: the smallest p-value")
    assert "correction is 0.12; suite.eval_seeds=7 could" in line
    assert not doubts(compare([study(goodput={name: [*of_it, *of_it[:2]] for name, of_it in goodput.items()})]))
    assert not doubts(compare([study(goodput=goodput, scenarios=("x", "y"))]))
    part = study(goodput=goodput, scenarios=("x", "y"))
    part.goodput["high"][1] = np.nan  # 2 / 32 with 5 pairs, and the other row's 4 / 1024 comes first
    (line,) = doubts(compare([part]))
    assert line.startswith("high: 5 evaluation seeds cannot")
    assert "correction is 0.062;" in line


def test_where_every_seed_gives_the_same_it_is_said_and_counts_as_one():
    found = compare([study(goodput={"low": [0.1] * 12, "high": [0.2] * 12})])
    assert any(note.startswith("Every seed gave the same in x: ") for note in found.notes)
    (row,) = found.rows
    assert (row.pairs, row.p_holm, row.verdict, row.more) == (1, 1.0, "no difference shown", ">10,000")


def test_other_settings_of_an_agent_are_said():
    other = study("two")
    agents = tuple(agent | {"share": 0.5} for agent in other.protocol.agents)
    notes = compare([study("one"), replace(other, protocol=replace(other.protocol, agents=agents))]).notes
    assert "high has other settings in two than in one." in notes


def test_scenarios_that_the_rules_refuse_one_of_are_left_out():
    whole = study(scenarios=("x", "y"))
    whole.goodput["high"][1] = np.nan
    found = compare([whole])
    assert by_name(found)["high"].scenarios == 1
    assert by_name(found)["same"].scenarios == 2
    assert "high: compared on 1 of 2 scenarios, elsewhere the rules refuse it or low." in found.notes
    assert (found.uneven, found.largest) == (True, (2, 12))
    assert [found.name(row) for row in found.rows] == ["high (1 x 12)", "same"]
    assert "| high (1 x 12) | low | 1 | 12 |" in comparison_table.markdown(found)
    assert "\nhigh (1 x 12) & low & 1 & 12 &" in comparison_table.latex(found)
    assert "\nhigh,low,1,12," in comparison_table.as_csv(found)
    even = compare([study()])
    assert (even.uneven, even.name(even.rows[0])) == (False, "high")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"to": "hgih"}, r"to='hgih': no rows in study s .did you mean 'high'..; known: low, high, same"),
        ({"agents": ["x"]}, r"agents: 'x' has no rows there; known: low, high, same"),
        ({"agents": ["low"]}, r"s: nothing to compare; one agent alone"),
    ],
)
def test_wrong_names_are_said(words, message):
    with pytest.raises(InputError, match=message):
        compare([study()], **words)


def test_where_nothing_is_scored_an_agent_must_be_named():
    with pytest.raises(InputError, match=r"to=null: study s has no best heuristic"):
        compare([study(best="")])
    assert compare([study(best="")], to="low").rows


# ---- files


def test_names_are_escaped_for_latex_and_its_columns_are_those_of_the_head():
    goodput = {"low_%$": [0.0] * 12, "a_b&c#{}~^\\": [0.15, -0.05] * 6}
    text = comparison_table.latex(compare([study(goodput=goodput, best="low_%$")]))
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines[0] == r"\begin{tabular}{ll rr rl rl ll}"
    assert (lines[1], lines[3], lines[5], lines[6]) == (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}")
    assert lines[4].startswith(
        r"a\_b\&c\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} & low\_\%\$ & 1 & 12 & $+0.0500$ & "
    )
    assert lines[2].count(" & ") == lines[4].replace(r"\&", "").count(" & ") == 9


def test_markdown_has_as_many_cells_in_every_row():
    lines = comparison_table.markdown(compare([study()])).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {11}
    assert "| high | low | 1 | 12 | +0.1500 |" in table[2]
    assert "| <0.001 |" in table[2]
    assert lines[-1].startswith("- ")


def test_csv_has_every_figure_in_full():
    found = compare([study()])
    high, same = csv.DictReader(io.StringIO(comparison_table.as_csv(found)))
    row = by_name(found)["high"]
    assert float(high["goodput_difference"]) == row.difference.mean
    assert float(high["p_holm"]) == row.p_holm
    assert high["verdict"] == "better"
    assert int(high["eval_seeds_for_80_percent_power"]) == row.needed
    assert same["against"] == "low"


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"out=.*table.txt: expected a file that ends in .tex, .md or .csv"):
        comparison_table.check_ending(tmp_path / "table.txt")
