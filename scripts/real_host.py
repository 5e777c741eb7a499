"""What ``shadow`` and ``drive`` share: a policy beside a real host, a live table, rows, a page, MLflow."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.envs.files import file_name
from hvgym.scripts import configuration
from hvgym.scripts.bench import print_place, recorded_at

if TYPE_CHECKING:
    from hvgym.agents.policy import Policy
    from hvgym.bench.driving import Decision, Session
    from hvgym.envs.real.rails import RailSettings


def host_file(config: DictConfig) -> Path:
    """The host's YAML."""
    file = configuration.path(config, "host")
    if file is None:
        raise InputError("host=null: name a YAML file with the host's VMs (docs/own-hosts.md)")
    return file


def rails_of(config: DictConfig) -> "RailSettings":
    """Keys of ``rails``."""
    from hvgym.envs.real.rails import RailSettings
    from hvgym.envs.schema import build

    return build(RailSettings, configuration.plain(config.rails), "rails")


def policy_of(config: DictConfig) -> "tuple[Policy, str]":
    """The policy and its name."""
    from hvgym.agents.policy import Policy, make_policy

    agent = configuration.chosen_agent(config)
    checkpoint = {"checkpoint": agent["checkpoint"]} if "checkpoint" in agent else {}
    policy = make_policy(agent, **checkpoint)
    if not isinstance(policy, Policy) or policy.of_cluster:
        raise InputError(f"agent={agent['name']}: needs the future or several hosts; choose one that reads one host")
    return policy, str(agent["name"])


def seconds_of(config: DictConfig) -> float:
    """How long; infinite without an end."""
    minutes = configuration.number(config, "minutes", least=0, whole=False)
    return float("inf") if minutes is None else 60.0 * minutes


def run(
    config: DictConfig, verb: str, session: "Session", agent: str, after: Callable[[], bool] = lambda: True
) -> None:
    """Decide until the end; what was logged until then stays, whatever ends it. after: called after each decision, False where
    nobody watches any more."""
    from hvgym.bench.driving import logged
    from hvgym.bench.driving_report import write_report
    from hvgym.bench.driving_tracking import make_driving_tracker

    runs, tracking = configuration.runs_folder(config), configuration.tracking(config)
    name = (
        configuration.name(config, "study") or f"{session.host.settings.name}-{agent}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    folder = runs / verb / file_name("study", name)
    if folder.exists():
        raise InputError(f"study={name}: holds an earlier session; choose another name")
    print(f"{verb} {name}: {agent} on {', '.join(session.host.names)}{recorded_at(tracking)}", flush=True)
    with make_driving_tracker(tracking, runs, folder) as tracker:
        if tracker:
            tracker.start(session, agent)
        try:
            with logged(folder / "decisions.csv", session.host.names) as log, _table(session) as show:
                for decision in session.decisions(seconds_of(config)):
                    log(decision)
                    show(decision)
                    if not after():
                        raise InputError("the watchdog is gone; VMs are handed back, and driving ends")
        finally:
            files = write_report(folder, session, agent)
            if tracker and files:
                tracker.finish(folder, files)
            print("\n".join(str(file) for file in files))
    print_place(tracking, runs, f"{verb}/{name}")


class _Lines:
    """Where nobody watches a terminal: a line a decision in which something was sent or held."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def __enter__(self) -> "Callable[[Decision], None]":
        return self._show

    def __exit__(self, *_: object) -> None:
        pass

    def _show(self, decision: "Decision") -> None:
        from hvgym.bench.driving_report import words

        if said := words(decision, self._session.host.names, self._session.acts):
            print(f"{decision.now.time_s[0]:8.0f} s  {'; '.join(said)}", flush=True)


def _table(session: "Session") -> Any:
    from rich.console import Console

    from hvgym.scripts.live import watched

    console = Console(markup=False)
    return _LiveTable(session, console) if watched(console) else _Lines(session)


class _LiveTable:
    """A row a VM, drawn anew at each decision."""

    def __init__(self, session: "Session", console: Any) -> None:
        from rich.live import Live

        self._session, self._live = session, Live(console=console, auto_refresh=False)

    def __enter__(self) -> "Callable[[Decision], None]":
        self._live.__enter__()
        return lambda decision: self._live.update(self._drawn(decision), refresh=True)

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def _drawn(self, decision: "Decision") -> Any:
        from rich.table import Table

        from hvgym.bench.driving_report import cells, head

        table = Table(title=head(decision, self._session.acts), title_justify="left", box=None, pad_edge=False)
        for column in ("VM", "configured", "size", "available", "on host", "asked", "sent", "held by"):
            table.add_column(column, justify="left" if column in ("VM", "held by") else "right")
        for row in cells(decision, self._session.host.names):
            table.add_row(*row)
        return table
