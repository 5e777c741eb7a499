"""``hvgym lab fail=power|crash|isolated|stall``: a host fails; what is played, and what is printed: a time line in words."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.lab.tables import print_lines, write

if TYPE_CHECKING:
    from hvgym.envs.lab.failure import Cluster, Failed
    from hvgym.envs.scenario import Scenario

KEYS, WRITTEN = ("fail", "stack", "cluster"), ("out", "runs")
"""Keys of this experiment, and those that it shares with the others."""

DEFAULT = "proxmox"
"""The stack, unless the command names one."""


def check_keys(config: DictConfig) -> None:
    """Raises `InputError` for a key that the chosen experiment would ignore."""
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0].partition("@")[0]
        if config.fail is None and group in KEYS and group != "fail":
            raise InputError(f"{override}: only a host that fails heeds {key}; give fail=power too, or leave it out")
        if config.fail is not None and group not in (*KEYS, *WRITTEN):
            raise InputError(f"{override}: a host that fails has no {key}; leave it out, or fail={config.fail}")


def run(config: DictConfig, out: Path) -> None:
    """One failure, second by second."""
    from hvgym.envs.lab import failure as lab
    from hvgym.scripts.lab import timelines

    stack = configuration.chosen(config, "stack") or configuration.packaged("stack", DEFAULT)
    scenario, cluster = lab.setup({str(key): configuration.plain(value) for key, value in config.items()}, stack)
    print(_in_words(scenario, cluster))
    failed = lab.play(scenario)
    _print(failed)
    rows = [{name: f"{value:.6g}" for name, value in dataclasses.asdict(row).items()} for row in failed.rows]
    summary = (json.dumps(failed.totals(), indent=1) + "\n").encode()
    write(out, rows, timelines.failure(failed), {"summary.json": summary})


def _in_words(scenario: "Scenario", cluster: "Cluster") -> str:
    failure = scenario.failures[0]
    how = {
        "power": "loses its power", "crash": "crashes", "isolated": "is cut off from the network",
        "stall": "stands still most of the time",
    }[failure.kind]  # fmt: skip
    stack = scenario.stack.name if scenario.stack else ""
    return (
        f"{cluster.hosts} hosts of {cluster.host_mib / 1024:.0f} GiB, each with {cluster.vms_per_host} VMs of "
        f"{cluster.vm_mib / 1024:.3g} GiB; {stack} on {scenario.hypervisor.name}; {failure.host} {how}, for {cluster.lasts_s:g} s"
    )


def _print(failed: "Failed") -> None:
    """The time line, and how long it took."""
    lines = [(f"{event.time_s} s", event.words) for event in failed.events]
    print_lines(None, ("after", "what happens"), lines or [("", "nothing")], justify=("right", "left"))
    told = (
        ("taken for dead", failed.noticed_s), ("fenced", failed.fenced_s), ("first VM back at work", failed.first_back_s),
        ("all VMs back at work", failed.all_back_s),
    )  # fmt: skip
    print("; ".join(f"{name} {'never' if second is None else f'after {second:.0f} s'}" for name, second in told))
    print(f"{failed.lost_s:.0f} VM seconds of work lost in {failed.stopped_s} s")
