"""The report: one file that needs nothing else, in which agents look alike everywhere and time lines show what befell VMs."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.colors import to_hex

from hvgym.bench import drawing, front, host_picture, marks, pictures, suites
from hvgym.bench.cluster_picture import picture as cluster_picture
from hvgym.bench.cluster_timeline import WORKS, ClusterLine
from hvgym.bench.jobs import Done, job_file, text_of
from hvgym.bench.looks import LIGHT, look
from hvgym.bench.page import UNRECORDED, Pictures, page
from hvgym.bench.protocol import Protocol
from hvgym.bench.report import write_report
from hvgym.bench.rollout import METRICS
from hvgym.bench.study import opened, read_study
from hvgym.bench.suites import Suite
from hvgym.bench.summary import summarise, tabulate
from hvgym.bench.timeline import Timeline
from hvgym.envs.files import write_atomically
from hvgym.envs.model.placement import UP
from hvgym.envs.scenario import load, load_group

LONG = "a_policy_whose_name_has_forty_letters_xy"
NAMES = ("stock", "reference", "proxmox", "proxmox_tuned", "esx_equal", "ppo", LONG)
GOODPUT = dict(zip(NAMES, (0.6, 0.9, 0.7, 0.8, 0.65, 0.75, 0.5), strict=True))
MISSED_S = dict(zip(NAMES, (500.0, 10.0, 300.0, 200.0, 400.0, 100.0, 900.0), strict=True))


def agents(names=NAMES):
    own = load_group("agent", "best_constant") | {"name": LONG}
    return tuple(own if name == LONG else load_group("agent", name) for name in names)


def line_of(scenario, kills=((10, 1),), failed=((20, 0),), kept=True):
    """Sixty minutes, a point each; VMs are killed and fail to start at these minutes."""
    vms, counts = len(scenario.groups), np.zeros((2, 60, len(scenario.groups)), np.uint32)
    for which, found in enumerate((kills, failed)):
        for minute, vm in found:
            counts[which, minute - 1 :, vm] += 1
    sizes_mib = np.tile(np.float32(4096.0), (60, vms))
    progress = np.linspace(0.0, 1.0, 60 * vms, dtype=np.float32).reshape(60, vms)
    line = Timeline(np.arange(1.0, 61.0, dtype=np.float32), sizes_mib, progress, 16384.0)
    return replace(line, killed=counts[0], failed=counts[1]) if kept else line


def write_study(folder, names=NAMES, kept=True):
    """A finished study without a simulator, as a study writes it."""
    suite = replace(Suite.from_dict(load_group("suite", "micro")), train_steps=None, eval_seeds=8)
    asked = Protocol(suite, agents(names), tuple(load(name).to_dict() for name in suite.scenarios))
    noise = np.random.default_rng(3).normal(0.0, 0.01, 8)
    with opened(asked, folder) as protocol:
        for job in protocol.in_order():
            name = job.agent["name"]
            rows = [
                {"eval_seed": seed} | dict.fromkeys(METRICS, 0.0) | {"goodput": GOODPUT[name] + noise[i], "cost": MISSED_S[name]}
                for i, seed in enumerate(suites.seeds("test", 8))
            ]  # fmt: skip
            curve = [{"steps": 1000.0 * i, "score": 0.1 * i} for i in range(5)] if name == "ppo" else []
            line = line_of(load(job.scenario["name"]), kept=kept)
            sees = "all" if job.agent["name"].startswith("reference") else "P0"
            write_atomically(job_file(folder, job), text_of(Done(job, rows, curve, None, sees, timeline=line.pack())))
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("study"))
    summary, files = write_report(folder)
    return folder, summary, files


class Elements(HTMLParser):
    """Every attribute by element, and identifiers in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.names = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.found += [(tag, name, value or "") for name, value in attrs]


def test_a_leaderboard_has_no_column_more_than_a_narrow_pane_has_room_for(study):
    """MLflow's pane at 1,440 pixels: the interval stands below the score, the seat below the name, and no column is all zeros."""
    from hvgym.bench.report_tables import leaderboard

    summary = study[1]
    heads = re.findall("<th>(.*?)</th>", leaderboard(summary))
    assert heads == ["agent", "score", "goodput", "SLO misses, s", "OOM kills", "host swap, s", "p99 slow-down"]
    row = re.search("<tr><td>(?:(?!</tr>).)*proxmox_<wbr>tuned.*?</tr>", leaderboard(summary))[0]
    figures = summary["agents"]["proxmox_tuned"]
    assert "<small>outside, P0</small>" in row
    assert f"{figures['score_iqm']:.3f}<small>[{figures['score_lo']:.3f}, {figures['score_hi']:.3f}]</small>" in row
    agents = summary["agents"] | {"esx_equal": summary["agents"]["esx_equal"] | {"failed_starts": 0.5}}
    assert "<th>failed starts</th>" in leaderboard(summary | {"agents": agents})


def test_the_page_refers_to_nothing_outside_and_links_find_their_targets(study):
    text = (study[0] / "report.html").read_text()
    page_ = Elements(text)
    refers = [value for _, name, value in page_.found if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert len(refers) > 10
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in refers)
    assert not {"script", "link", "iframe", "object", "base"} & set(page_.names)
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    identifiers = [value for _, name, value in page_.found if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    targets = {value[1:] for value in refers if value.startswith("#")} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert targets <= set(identifiers)


def test_colours_of_pictures_are_the_pages(study):
    text = (study[0] / "report.html").read_text()
    style, body = text.split("</style>", 1)
    assert not [colour for colour in LIGHT.values() if colour in body]
    used = set(re.findall(r"var\(--(\w+)\)", text))
    assert {"ink", "paper", "blue"} <= used
    light, dark = style.split("prefers-color-scheme:dark")
    for theme in (light, dark):
        assert used <= set(re.findall(r"--(\w+):#", theme))


def colours_of(figure):
    """Of everything with a label."""
    found = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found[label.replace("\n", "")] = to_hex(handle.get_color())
    return found


def test_an_agent_has_its_colour_and_mark_in_every_picture_and_study(study, tmp_path):
    protocol, done = read_study(study[0])
    table = tabulate(protocol, done)
    for names in (NAMES, ("stock", "reference", "ppo", "proxmox")):
        shown = [name for name in pictures.shown(study[1]) if name in names]
        figure, _ = front.picture(study[1], table, shown)
        for drawn in (pictures.profile(table, shown), figure):
            found = {name: colour for name, colour in colours_of(drawn).items() if name != "front"}
            assert {"ppo", "proxmox", "reference"} <= set(found)
            assert found == {name: look(name).colour for name in found}
    curves = colours_of(pictures.training([one for one in done if one.curve]))
    assert curves == {"ppo": look("ppo").colour}
    axes = pictures.leaderboard(study[1]).axes[0]
    names = [label.get_text().replace("\n", "") for label in axes.get_yticklabels()]
    points = [one for one in axes.lines if len(one.get_xdata()) == 1]
    assert [(p.get_color(), p.get_marker()) for p in points] == [(look(n).colour, look(n).mark) for n in names]
    text = (study[0] / "report.html").read_text()
    assert text.count("fill:none;stroke:var(--blue)") >= 3  # proxmox_tuned in each table, hollow


def test_the_front_is_who_is_beaten_by_nobody_in_both():
    means = {"a": (1.0, 0.5), "b": (2.0, 0.4), "c": (2.0, 0.6), "d": (3.0, 0.6), "e": (4.0, 0.9), "f": (1.0, 0.3)}
    assert front.front(means) == ["a", "c", "e"]


def fronts_of(figure):
    """Misses along the line of each panel."""
    return [line.get_xdata().tolist() for axes in figure.axes for line in axes.lines if line.get_label() == "front"]


def test_the_front_leaves_out_who_sees_the_future(study):
    table = tabulate(*read_study(study[0]))
    figure, off = front.picture(study[1], table, [])
    assert fronts_of(figure) == [[MISSED_S["ppo"], MISSED_S["proxmox_tuned"]]]
    assert off == []
    far = study[1]["agents"] | {"proxmox_tuned": study[1]["agents"]["proxmox_tuned"] | {"score_iqm": -3.0}}
    figure, off = front.picture(study[1] | {"agents": far}, table, [])
    assert fronts_of(figure) == [[MISSED_S["ppo"]]]
    assert off == ["proxmox_tuned"]


def test_where_some_play_a_part_each_scenario_has_its_front(study):
    table = tabulate(*read_study(study[0]))
    first, second = table.scenarios
    without = table.metrics["ppo"] | {"goodput": table.metrics["ppo"]["goodput"].copy()}
    without["goodput"][1] = np.nan
    figure, _ = front.picture(study[1], replace(table, metrics=table.metrics | {"ppo": without}), [])
    assert [axes.get_title() for axes in figure.axes] == [first, second]
    assert fronts_of(figure) == [[MISSED_S["ppo"], MISSED_S["proxmox_tuned"]], [MISSED_S["proxmox_tuned"]]]


def test_density_stands_beside_the_score_where_there_is_one(study):
    summary = dict(study[1])
    assert len(pictures.leaderboard(summary).axes) == 1
    dense = {"density": 1.3, "density_lo": 1.2, "density_hi": 1.4, "density_shown": "1.30 (1.20, 1.40)"}
    none = dict.fromkeys(("density", "density_lo", "density_hi"), 0.0) | {"density_shown": "<0.75 (<0.75, <0.75)"}
    some = {name: summary["agents"][name] | found for name, found in (("ppo", dense), ("stock", none))}
    score, density = pictures.leaderboard(summary | {"agents": summary["agents"] | some, "capacity": {}}).axes
    assert [text.get_text() for text in density.texts] == ["<0.75", "1.30"]
    names = [label.get_text() for label in score.get_yticklabels()]
    points = {names[int(p.get_ydata()[0])]: p for p in density.lines if len(p.get_xdata()) == 1}
    assert set(points) == {"ppo", "stock"}
    assert points["ppo"].get_xdata()[0] == 1.3
    assert 1.0 < points["stock"].get_xdata()[0] < 1.2  # at the edge, not at 0
    assert points["stock"].get_marker() == "<"


def test_long_names_break_and_nothing_of_them_is_lost(study):
    assert drawing.wrapped(LONG) == "a_policy_whose_name_has_\nforty_letters_xy"
    assert drawing.wrapped("x" * 50, 20) == "x" * 20 + "\n" + "x" * 20 + "\n" + "x" * 10
    assert drawing.wrapped("short") == "short"
    assert re.sub("<wbr>", "", (study[0] / "report.html").read_text()).count(LONG) >= 4


def test_pictures_fit_a_telephone_of_400_pixels(study):
    text = (study[0] / "report.html").read_text()
    least_pt = [float(found) for found in re.findall(r"min-width:(\d+)pt", text)]
    assert len(least_pt) == 4 + len(pictures.shown(study[1]))
    assert max(least_pt) * 96 / 72 <= 400 - 2 * 16


def test_names_cannot_become_markup_or_formulas(study):
    protocol, _ = read_study(study[0])
    bad = '<b>&"$\\frac$'
    figures = study[1]["agents"]["proxmox"]
    compared = {bad: {"goodput_difference": 0.1, "lo": 0.05, "hi": 0.2, "p_holm": 0.01}}
    summary = study[1] | {"agents": study[1]["agents"] | {bad: figures}, "paired_to_best_heuristic": compared}
    with drawing.style():
        shown = drawing.svg(pictures.leaderboard(summary), "leaderboard", bad)
    text = page(protocol, summary, Pictures({"leaderboard": shown}, scenario=bad))
    assert "<b>" not in text
    assert text.count("&lt;b&gt;&amp;") >= 5
    assert "$\\frac$" in shown


def test_the_verdict_goes_by_the_corrected_p_value(study):
    protocol, _ = read_study(study[0])
    test = {"goodput_difference": 0.01, "lo": 0.001, "hi": 0.02, "p_holm": 0.04}
    tests = {"ppo": test, "esx_equal": test | {"goodput_difference": -0.01}, "proxmox_tuned": test | {"p_holm": 0.06}}
    text = page(protocol, study[1] | {"paired_to_best_heuristic": tests}, Pictures({}))
    assert "<strong>Better</strong> (1): ppo." in text
    assert "<strong>Worse</strong> (1): esx_equal." in text
    assert "<strong>No difference shown</strong> (1): proxmox_tuned." in text


# ---- time lines


def marked(axes, what):
    """Minutes and rows of a mark."""
    mark, words = marks.MARKS[what]
    lines = [line for line in axes.lines if line.get_label() == words]
    assert all(line.get_marker() == mark for line in lines)
    return [(x, y) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_kills_and_failed_starts_stand_on_the_row_of_the_vm_at_their_minute():
    scenario = load("idle-giants-short")
    line = line_of(scenario, kills=((10, 1), (30, 1), (30, 4)), failed=((20, 0),))
    figure = host_picture.picture(scenario.to_dict(), {"stock": line}, 40.0)
    sizes, rows = figure.axes
    assert sorted(marked(rows, "killed")) == [(10.0, 1), (30.0, 1), (30.0, 4)]
    assert marked(rows, "failed") == [(20.0, 0)]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["RAM", "at half speed", "stands still", "killed", "start failed"]
    assert len(sizes.collections) == len(scenario.groups)


def test_vms_are_named_and_have_the_colour_of_their_area():
    scenario = load("idle-giants-short")
    figure = host_picture.picture(scenario.to_dict(), {"stock": line_of(scenario)}, 40.0)
    sizes, rows = figure.axes
    names = [label.get_text() for label in rows.get_yticklabels()]
    assert names[:3] == ["giant 1", "giant 2", "worker 1"]
    (squares,) = [one for one in rows.collections if len(one.get_offsets()) == len(names)]
    areas = [tuple(area.get_facecolor()[0]) for area in sizes.collections]
    assert [tuple(colour) for colour in squares.get_facecolor()] == areas
    assert len(set(areas)) == len(names)


def test_a_row_is_the_stronger_the_slower_and_blank_before_the_vm_comes():
    plain = load("idle-giants-short").to_dict()
    plain["vms"][1]["arrive_s"] = 1800.0
    line = line_of(load("idle-giants-short"))
    (image,) = host_picture.picture(plain, {"stock": line}, 40.0).axes[1].images
    strength = image.get_array()[..., 3]
    np.testing.assert_allclose(strength[:2], 1.0 - line.progress.T[:2], atol=1e-6)
    assert (strength[2:, :29] == 0.0).all()  # minutes 1 to 29
    np.testing.assert_allclose(strength[2:, 29:], 1.0 - line.progress.T[2:, 29:], atol=1e-6)


def test_time_lines_of_before_counts_were_kept_are_drawn_and_the_page_says_so(study, tmp_path):
    line = line_of(load("idle-giants-short"), kept=False)
    assert "counts" not in line.pack()
    assert Timeline.unpack(line.pack()).killed is None
    folder = write_study(tmp_path / "old", ("stock", "reference", "proxmox"), kept=False)
    _, files = write_report(folder)
    assert (folder / "timeline.png") in files
    assert UNRECORDED in (folder / "report.html").read_text()
    assert UNRECORDED not in (study[0] / "report.html").read_text()


def test_more_agents_than_columns_go_below_and_all_are_drawn():
    scenario = load("idle-giants-short")
    lines = dict.fromkeys([f"agent-{i}" for i in range(6)], line_of(scenario))
    figure = host_picture.picture(scenario.to_dict(), lines, 40.0)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert [title for title in titles if title] == list(lines)
    assert sum(axes.get_visible() for axes in figure.axes) == 12
    assert figure.get_size_inches()[0] < 13.0


def test_kills_are_marked_on_rows_of_a_cluster_too():
    scenario = load("n-plus-one")
    vms = len(scenario.groups)
    hosts = np.full((60, 4), UP), np.full((60, 4), 1024.0), np.full(4, 40960.0)
    cluster = ClusterLine(np.zeros((60, vms), np.int16), np.full((60, vms), WORKS), *hosts)
    line = replace(line_of(scenario, kills=((12, 3),), failed=()), cluster=cluster)
    figure = cluster_picture(scenario, {"stock": line})
    assert marked(figure.axes[0], "killed") == [(12.0, 3)]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[-1] == "killed"
    assert "start failed" not in words


def test_counts_that_rose_before_the_first_point_are_marked_there():
    line = line_of(load("idle-giants-short"), kills=((1, 2),), failed=())
    minutes, vms = marks.happened(line, "killed")
    assert (minutes.tolist(), vms.tolist()) == ([1.0], [2])


def test_a_summary_of_heuristics_alone_still_makes_a_page(tmp_path):
    folder = write_study(tmp_path / "few", ("stock", "reference"))
    protocol, done = read_study(folder)
    summary = summarise(protocol, tabulate(protocol, done))
    assert "Only stock and references have scores." in page(protocol, summary, Pictures({}))
    write_report(folder)
