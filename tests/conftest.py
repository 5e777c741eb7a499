"""A guest alone on an ample host, like the ones that the measurements were made on."""

import functools
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hvgym.envs.model import params
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

PAGES = 65536
"""Hot set of the measurements: 256 MiB of 4 KiB pages, touched 5,000 times a second."""


class LoneGuest:
    """512 MiB, a paced workload, emulated hardware: the set-up of the ground truth, any part of it replaceable."""

    def __init__(self, page_cache: bool = False, hot_mib: float = 256.0, **changes: Any) -> None:
        hypervisor = Hypervisor("emulated", 1, 256.0, 78.0, min_free_share=0.01, exit_us=0.0, nested_walks=False,
                                inflate_mib_per_s=100.0, deflate_mib_per_s=1000.0, balloon_interference=0.0,
                                stats_interval_s=1.0)  # fmt: skip
        tau = PAGES / 5000.0
        demand = Demand(hot_mib=0.0, cache_mib=hot_mib) if page_cache else Demand(hot_mib=hot_mib)
        guest = {
            "memory_mib": 512.0,
            "guest_swap_mib": 1024.0,
            "reclaim_mib_per_s": 45.0,
            "slack": 0.9,
            "fault_parallelism": 1.0,
        }
        guest |= {"tier_tau_s": (tau, tau, tau, tau), "tier_write_share": (0.5, 0.5, 0.5, 0.0)}
        group = VmGroup(name="guest", demand=demand, **(guest | changes))
        host = Host(ram_mib=65536.0, disk_iops=20000.0, disk_latency_us=100.0)
        self.sim = Simulator(Scenario("lone", "", host, hypervisor, (group,), episode_s=100_000, slot_s=1000))
        self.sim.reset([0])
        self.hot_mib = hot_mib
        self.vm: Any = self.sim.vms[0, 0]
        self.spec: Any = self.sim.vm_specs[0, 0]

    def size_for(self, level: float) -> float:
        """Memory size at which the workload can hold `level` times its hot set, by MemAvailable."""
        return float(level * self.hot_mib + self.spec["kernel_mib"] + self.spec["watermark_mib"])

    def ask(self, memory_mib: float) -> None:
        self.sim.apply(Targets(np.array([[memory_mib]])))

    def run(self, seconds: int) -> dict[str, float]:
        """Advance; return by how much each scalar of the state rose."""
        before = self.vm.copy()
        self.sim.advance(seconds)
        names = [name for name in params.VM.names or () if np.ndim(before[name]) == 0 and np.isfinite(before[name])]
        return {name: float(self.vm[name] - before[name]) for name in names}

    def squeeze(self, level: float, settle_s: int = 60, measure_s: int = 30) -> dict[str, float]:
        """Ask for a level, settle, and measure rates per second; adds miss."""
        self.ask(self.size_for(level))
        self.run(settle_s)
        rates = {name: rise / measure_s for name, rise in self.run(measure_s).items()}
        return rates | {"miss": rates["major_faults"] / rates["touches"]}


@pytest.fixture
def lone_guest() -> Callable[..., LoneGuest]:
    return LoneGuest


START_S = 1_700_006_400
"""A Wednesday's first second; tables of tests begin there."""

GIB = 2.0**30


def write_table(folder, vms: dict[str, dict[str, Any]], step_s: int = 60, meta: dict[str, Any] | None = None):
    """A table by hand: VMs by name, each with its columns of vm_samples (bytes), from `first_row` on; returns the folder."""
    import pandas as pd

    folder.mkdir()
    frames = []
    for vm, columns in vms.items():
        rows = max(np.size(values) for values in columns.values())
        ends = START_S + step_s * (1 + columns.get("first_row", 0) + np.arange(rows))
        frame = pd.DataFrame({"vm_id": vm, "t_end_utc_s": ends, "interval_s": step_s})
        frames.append(frame.assign(**{key: value for key, value in columns.items() if key != "first_row"}))
    pd.concat(frames).to_csv(folder / "vm_samples.csv", index=False)
    if meta is not None:
        pd.DataFrame(meta).to_csv(folder / "vm_meta.csv", index=False)
    return folder


@pytest.fixture
def own_table(tmp_path):
    """`write_table` below the test's own folder, as ``table`` if not told."""

    def write(
        vms: dict[str, dict[str, Any]], step_s: int = 60, name: str = "table", meta: dict[str, Any] | None = None
    ):
        return write_table(tmp_path / name, vms, step_s, meta)

    return write


@pytest.fixture(scope="session")
def twelve(tmp_path_factory):
    """A web shop's twelve VMs, a week at one minute: names, sizes, used and cached memory, CPU and I/O that move."""
    draw, rows = np.random.default_rng(7), 7 * 1440
    sizes = {"db01": 16, "db02": 16, "cache01": 8, "web01": 4, "web02": 4, "web03": 4, "queue": 4, "build": 8, "mail": 8,
             "wiki": 4, "vpn": 2, "idle": 2}  # fmt: skip
    vms = {}
    for index, (name, gib) in enumerate(sizes.items()):
        cap, wave = gib * GIB, 0.08 * np.sin(np.arange(rows) / 300 + index)
        level = 0.35 + 0.2 * draw.random() + wave + 0.02 * draw.standard_normal(rows)
        vms[name] = {
            "cap_bytes": cap, "guest_used_bytes": np.clip(level, 0.1, 0.8) * cap, "guest_cache_bytes": 0.15 * cap,
            "backed_bytes": 0.9 * cap, "cpu_used_cores": 0.4 + 0.2 * draw.random(rows), "vcpus": 2,
            "disk_read_bytes_per_s": 1e6 * draw.random(rows),
        }  # fmt: skip
    return write_table(tmp_path_factory.mktemp("own") / "twelve", vms)


@pytest.fixture(scope="module")
def no_pictures():
    """Reports whose pictures are blank, for tests that do not look at them: to draw them takes most of the time of a small study.
    The figures are still made; ``bench/test_report.py`` and others draw them.
    """
    from hvgym.bench import drawing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "png", lambda figure: b"\x89PNG")
        patch.setattr(drawing, "svg", lambda figure, name, title: f'<svg role="img" aria-label="{title}"></svg>')
        yield


@pytest.fixture(scope="session", autouse=True)
def hydra_composes_once():
    """Hydra composes what a command plays twice, first only to read ``hydra.mode`` of it, which nobody here sets: half the time of
    a command that is refused.
    """
    from hydra._internal.hydra import Hydra

    asked = Hydra.get_mode

    def get_mode(self, config_name, overrides):
        return asked(self, config_name, overrides) if any("hydra.mode" in word for word in overrides) else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", get_mode)
        yield


@pytest.fixture(scope="session", autouse=True)
def stores_are_copies(tmp_path_factory):
    """MLflow takes two seconds to make the tables of a store. The first of a process is made so, all others are copies of it, as of
    a store that was moved; `made_store` has its own.
    """
    from hvgym.bench import recording

    make, first = recording._create_store, []

    @functools.wraps(make)
    def copy(runs):
        if not first:
            first.append(tmp_path_factory.mktemp("store"))
            make(first[0])
        fresh = runs / ".mlflow.db.new"
        shutil.copyfile(first[0] / "mlflow.db", fresh)
        fresh.replace(runs / "mlflow.db")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "_create_store", copy)
        yield


@pytest.fixture
def made_store(monkeypatch):
    """Stores are made as a user's are."""
    from hvgym.bench import recording

    monkeypatch.setattr(recording, "_create_store", recording._create_store.__wrapped__)
