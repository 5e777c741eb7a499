"""The time line of a cluster says who was where, and what became of hosts; its picture and the report show it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.bench import cluster_picture, report
from hvgym.bench.cluster_timeline import AWAY, COPIED, DOWN, MAINTENANCE, WAITS, WORKS, ClusterLine
from hvgym.bench.page import Pictures
from hvgym.bench.page import page as page_of
from hvgym.bench.rollout import OF_CLUSTERS, OUTCOMES, rollout
from hvgym.bench.timeline import Recorder, Timeline
from hvgym.envs.errors import InputError
from hvgym.envs.model.placement import DEAD, ISOLATED, RETURNING, UP
from hvgym.envs.scenario import load, load_group

NAME, INTERVAL_S = "n-plus-one", 10


@pytest.fixture(scope="module")
def played():
    """Rows and time lines of one episode under each of two agents."""
    found = {}
    for agent in ("stock", "move_randomly"):
        recorder = Recorder()
        episodes = rollout(load(NAME), make_policy(load_group("agent", agent)), [7], recorder.watch, agent)
        found[agent] = episodes, recorder.timeline()
    return found


def test_down_time_in_the_line_is_the_models_outage(played):
    """The model counts seconds from a failure until a VM does half of its work; the line samples states and progress."""
    episodes, line = played["stock"]
    lost = np.flatnonzero((line.cluster.mode == DOWN).any(axis=0))
    assert len(lost) == 6
    assert not np.isin(line.cluster.mode[line.cluster.host_of < 0], (WORKS, COPIED)).any()
    sampled_s = 0
    for v in lost:
        mode, progress = line.cluster.mode[:, v], line.progress[:, v]
        first = int((mode == DOWN).argmax())
        back = (mode[first:] == WORKS) & (progress[first:] >= 0.5)
        sampled_s += INTERVAL_S * (int(back.argmax()) if back.any() else len(back))
    assert sampled_s > 1000.0
    assert sampled_s == pytest.approx(episodes.outage_s[0], abs=len(lost) * INTERVAL_S)


def test_a_vm_that_comes_later_is_not_yet_started_before_it_works_and_away_before_that():
    recorder = Recorder()
    rollout(load("rack"), make_policy(load_group("agent", "stock")), [7], recorder.watch, "stock")
    line = recorder.timeline().cluster
    came = [v for v in range(150, 200) if line.mode[0, v] == AWAY and (line.mode[:, v] == WORKS).any()]
    assert len(came) > 5
    for v in came:
        first = int((line.mode[:, v] == WORKS).argmax())
        assert set(line.mode[:first, v]) <= {AWAY, WAITS}
        assert line.mode[first, v] == WORKS


def test_changes_of_hosts_in_the_line_are_the_models_moves(played):
    episodes, line = played["move_randomly"]
    before, after = line.cluster.host_of[:-1], line.cluster.host_of[1:]
    moved = (before >= 0) & (after >= 0) & (before != after)
    restarted = (line.cluster.mode == DOWN).any(axis=0)
    at_once = (line.cluster.mode[0] == COPIED).sum()  # began and ended before the first point, or goes on
    assert abs(moved[:, ~restarted].sum() - episodes.moves[0]) <= at_once
    assert (line.cluster.mode[1:][moved] == COPIED).all()


def test_a_host_without_power_uses_no_memory_and_others_no_more_than_they_have(played):
    line = played["stock"][1].cluster
    off = line.machine % MAINTENANCE != UP
    assert np.isnan(line.used_mib[off]).all()
    assert off[:, 1].sum() * INTERVAL_S == pytest.approx(1500 + 180, abs=INTERVAL_S)  # repaired, booted
    assert not off[:, [0, 2, 3]].any()
    assert (line.used_mib[~off] <= 40960.0 * (1 + 1e-6)).all()
    assert (line.used_mib[~off] > 0.0).all()


def test_what_is_stored_comes_back_and_is_small(played):
    for _, line in played.values():
        text = json.dumps(line.pack())
        back = Timeline.unpack(json.loads(text))
        for name in ("host_of", "mode", "machine", "used_mib"):
            assert np.array_equal(getattr(back.cluster, name), getattr(line.cluster, name), equal_nan=True)
        assert (back.progress == line.progress).all()
        assert len(text) < 40_000  # 22 VMs, 360 points: 5 bytes a VM and point


def test_lines_of_one_host_and_of_old_stores_have_no_cluster(played):
    packed = played["stock"][1].pack()
    old = {key: value for key, value in packed.items() if key != "cluster"}
    assert Timeline.unpack(old).cluster is None
    recorder = Recorder()
    rollout(load("idle-giants-short"), make_policy(load_group("agent", "stock")), [7], recorder.watch)
    assert "cluster" not in recorder.timeline().pack()


@pytest.mark.parametrize("change", [{"packed": "AAAA"}, {"ram_mib": [1.0]}, {"ram_mib": None}, {"packed": "é"}])
def test_a_damaged_line_is_refused(played, change):
    packed = played["stock"][1].pack()
    with pytest.raises(InputError, match="its time line is damaged"):
        Timeline.unpack(packed | {"cluster": packed["cluster"] | change})


def test_a_row_is_cut_where_the_host_or_the_state_changes():
    minutes = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    mode = np.array([WORKS, COPIED, WORKS, WORKS, DOWN])
    host_of = np.array([0, 0, 1, 1, 1])
    assert cluster_picture.segments(minutes, mode, host_of) == [
        (0.0, 1.0, WORKS, 0), (1.0, 2.0, COPIED, -1), (2.0, 4.0, WORKS, 1), (4.0, 5.0, DOWN, -1),
    ]  # fmt: skip


def test_events_are_told_in_words_once_each_and_together_where_they_are_alike():
    machine = np.array([
        [UP, UP, UP],
        [UP + MAINTENANCE, UP + MAINTENANCE, UP],
        [DEAD + MAINTENANCE, DEAD + MAINTENANCE, DEAD],
        [DEAD + MAINTENANCE, UP, RETURNING],
        [DEAD + MAINTENANCE, UP, UP],
        [DEAD + MAINTENANCE, ISOLATED, UP],
    ])  # fmt: skip
    line = ClusterLine(np.zeros((6, 1)), np.zeros((6, 1)), machine, np.zeros((6, 3)), np.ones(3))
    assert cluster_picture.events(np.arange(6.0), line, ("a", "b", "c")) == [
        (1.0, "a, b to be emptied"), (2.0, "a, b off, serviced"), (2.0, "c dies"), (3.0, "b is back"), (4.0, "c is back"),
        (5.0, "b cut off"),
    ]  # fmt: skip


def test_the_picture_names_agents_hosts_and_what_happened(played):
    figure = cluster_picture.picture(load(NAME), {agent: line for agent, (_, line) in played.items()})
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title(loc="left") for axes in upper] == ["stock", "move_randomly"]
    for axes in lower:
        assert [text.get_text().strip() for text in axes.texts] == ["node-1 dies", "node-1 is back"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "0: node-0",
        "1: node-1",
        "2: node-2",
        "3: node-3",
        *(name for name, _, _ in cluster_picture.HATCHED.values()),
    ]
    down = [bar for bar in upper[0].patches if bar.get_hatch() == cluster_picture.HATCHED[DOWN][2]]
    line = played["stock"][1]
    drawn_min = sum(bar.get_width() for bar in down)
    assert drawn_min == pytest.approx((line.cluster.mode == DOWN).sum() * INTERVAL_S / 60.0, rel=1e-4)


def seen_by(colour, matrix):
    """A colour as somebody sees it who lacks a kind of cones (Vienot, Brettel and Mollon 1999, in linear RGB)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return np.clip(matrix @ linear, 0.0, 1.0) ** (1.0 / 2.2)


@pytest.mark.parametrize("lacking", ["red", "green"])
def test_hosts_differ_for_those_who_cannot_tell_red_from_green(lacking):
    mix = np.array([0.11238, 0.88762, 0.0]) if lacking == "red" else np.array([0.29275, 0.70725, 0.0])
    blue = np.array([0.00401, -0.00401, 1.0]) if lacking == "red" else np.array([-0.02234, 0.02234, 1.0])
    seen = [seen_by(np.array(cluster_picture.host_colour(h)), np.array([mix, mix, blue])) for h in range(7)]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 0.1


def test_the_report_draws_the_first_scenario_in_which_a_host_fails(played):
    scenarios = [load(name).to_dict() for name in ("hot-host", NAME, "unlike-hosts")]
    protocol = SimpleNamespace(scenarios=scenarios)
    assert report.pictured(protocol)["name"] == NAME
    assert report.pictured(SimpleNamespace(scenarios=scenarios[:1]))["name"] == "hot-host"
    done = [
        SimpleNamespace(job=SimpleNamespace(agent={"name": agent}, scenario=scenarios[1]), timeline=line.pack())
        for agent, (_, line) in played.items()
    ]
    found = report._lines(protocol, done, None, list(played))
    assert list(found) == list(played)
    lines = {agent: line for agent, (_, line) in found.items()}
    owners = [text.get_text() for text in report._episode(scenarios[1], lines, 100.0).axes[0].get_yticklabels()]
    assert owners[:2] == ["4 front", "5 batch"]
    old = {agent: replace(line, cluster=None) for agent, line in lines.items()}
    assert report._episode(scenarios[1], old, 100.0).axes[0].get_ylabel() == "memory sizes, GiB"


@pytest.mark.parametrize(("name", "cluster"), [(NAME, True), ("idle-giants-short", False)])
def test_the_page_has_columns_and_words_of_clusters_where_there_is_one(name, cluster):
    figures = dict.fromkeys((*OUTCOMES, *OF_CLUSTERS), 0.0) | {"score_iqm": 0.5, "score_lo": 0.4, "score_hi": 0.6}
    scores = {name: {"score": 0.5, "goodput": 0.5}}
    agent = figures | {"outage_s": 8752.0, "moves": 17.5, "seat": "outside", "sees": "P0", "scenarios": scores}
    summary = {
        "agents": {"stock": agent}, "clusters": [name] if cluster else [], "refused": {}, "unscored": [], "not_scored": {},
        "beaten": [], "code": {"outside": {}, "hvgym": "0"}, "rules": "open", "best_heuristic": "stock",
        "significance": {"eval_seeds": 8, "smallest_p_holm": 0.01, "eval_seeds_needed": 8}, "paired_to_best_heuristic": {},
    }  # fmt: skip
    suite = SimpleNamespace(name="s", eval_seeds=8, train_seeds=1)
    protocol = SimpleNamespace(suite=suite, scenarios=[load(name).to_dict()], agents=[{}], hash="00")
    shown = Pictures({}, name, [("<svg></svg>", "goodput 0.5")], cluster=cluster)
    page = page_of(protocol, summary, shown)
    for words in ("<th>outage, s</th>", "<td>8752.0</td>", "<td>17.5</td>", "Outage: seconds", "number of the host"):
        assert (words in page) == cluster
    heads, cells = page.split("<thead>")[1].split("</thead>")[0], page.split("<tbody>")[1].split("</tbody>")[0]
    assert heads.count("<th>") == cells.count("<td>")
    assert f"One episode of {name}" in page
