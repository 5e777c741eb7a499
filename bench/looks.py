"""How agents look: colour, mark and line are fixed by an agent's name, the same in every picture and table of every study.

A tuned copy looks like its original with hollow marks and a thinner line. Packaged agents have their places in `PLACES`; any
other gets its look from a hash of its name, with marks that no packaged one has. With more agents than colours the mark and the
dashes tell them apart. Stock, never to reclaim and the references are grey or black: they are what others are measured by.

The eight colours differ for everybody, those who lack the cones for red or green included, and from the greys
(tests/bench/test_looks.py: simulated after Machado, Oliveira and Fernandes 2009). There are two sets of them, for white paper and
for a dark page; they have contrast 3 with their background.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

HUES = ("blue", "orange", "green", "sky", "maroon", "violet", "magenta", "brown")

LIGHT = {
    "paper": "#ffffff", "ink": "#1d2733", "dim": "#6b7785", "rule": "#dde3ea",
    "blue": "#4941cf", "orange": "#fe5920", "green": "#06a667", "sky": "#1aa1c9", "maroon": "#753644", "violet": "#946afe",
    "magenta": "#990f94", "brown": "#815b1f",
}  # fmt: skip
"""By name, on paper. dim: text of less weight, and grey agents; rule: lines of tables and grids."""

DARK = {
    "paper": "#11161d", "ink": "#e6edf3", "dim": "#8b98a5", "rule": "#2d3743",
    "blue": "#808af0", "orange": "#fc8118", "green": "#3cd8a2", "sky": "#60c8fb", "maroon": "#db2e1e", "violet": "#6b5ad4",
    "magenta": "#8f5e8b", "brown": "#f4e736",
}  # fmt: skip
"""The same on a dark page, where what is dark on paper is bright (maroon a red, brown a yellow)."""

COLOURS = tuple(LIGHT[hue] for hue in HUES)
"""For curves that are no agents', in pictures on paper."""

GREY = LIGHT["dim"]

MARKS = ("o", "s", "^", "D", "v", "p", "h", "<", ">", "H", "d")
"""matplotlib's, one a line of `PLACES`."""

MARKS_OF_OTHERS = ("X", "P", "*")

DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))

_LINES = (
    "proxmox proportional coldest_first esx_equal selfballoon static_shares io_latency ppo",
    "hyperv_like mom_vdsm minimum_iops random free_page_reporting greedy best_constant esx",
    "never_move pve_dynamic first_fit nova drs2 ovirt_even proxlb watcher_balance",
    "move_randomly drs_classic node_fairness descheduler cloudsim_lr_mmt xapi_ha watcher_stabilization cluster",
    "esxi5 esxi6 squeezed workstation_trim senpai tmo gswap meb",
    "damon_reclaim ksmtuned proxmox_ksmtuned mom_upstream apple capitulino hypeman hypeman_fixed",
    "katalyst_psi katalyst_refault oomd_fixed oomd_immediate oomd_senpai pressure_pi pressure_pi_psi borg_default",
    "admit_ratio admit_reservation ha_percentage ha_slot max_predictor n_sigma rc_like pve_basic",
    "pve_static cloudsim_iqr_mc cloudsim_mad_mmt cloudsim_thr_mmt ovirt_none ovirt_saving learned_sizes learned_full",
    "es sac recurrent_ppo ars imitation es_full cheapest_pages tree",
    "es_moves learned_moves",
)

PLACES = tuple(agent for line in _LINES for agent in line.split())
"""A colour a column, a mark a line. Only ever added to at the end, or an agent's colour would change."""


@dataclass(frozen=True)
class Look:
    """hue: a key of `LIGHT` and `DARK`; mark and dash: matplotlib's; hollow: whether marks are not filled."""

    hue: str
    mark: str
    dash: Any
    hollow: bool = False

    @property
    def colour(self) -> str:
        """On paper."""
        return LIGHT[self.hue]

    @property
    def line(self) -> dict[str, Any]:
        """Keywords of a plotted line without marks."""
        return {"color": self.colour, "linestyle": self.dash, "linewidth": 1.2 if self.hollow else 2.0}

    @property
    def point(self) -> dict[str, Any]:
        """Keywords of plotted marks."""
        face = LIGHT["paper"] if self.hollow else self.colour
        return {"marker": self.mark, "color": self.colour, "markerfacecolor": face, "markeredgewidth": 1.4}


GREYS = {
    "stock": Look("dim", "s", DASHES[0]),
    "static": Look("dim", "v", DASHES[2]),
    "reference": Look("ink", "D", DASHES[0]),
    "reference_outside": Look("ink", "d", DASHES[1]),
    "cluster_reference": Look("ink", "8", DASHES[0]),
}


def look(agent: str) -> Look:
    """Of an agent by its name, whatever else a study plays."""
    if agent in GREYS:
        return GREYS[agent]
    original = agent.removesuffix("_tuned")
    hollow = original != agent
    if original in PLACES:
        line, column = divmod(PLACES.index(original), len(HUES))
        return Look(HUES[column], MARKS[line], DASHES[line % len(DASHES)], hollow)
    number = int.from_bytes(hashlib.sha256(original.encode()).digest()[:8])
    number, column = divmod(number, len(HUES))
    number, mark = divmod(number, len(MARKS_OF_OTHERS))
    return Look(HUES[column], MARKS_OF_OTHERS[mark], DASHES[number % len(DASHES)], hollow)
