"""Writes docs/scale.md: what 10,000 jobs take on 1, 100 and 1,000 cores, and where stores and folders end: ``make scale``.

python docs/scale.py [SUITE]     quick; everything is measured anew, in some minutes on a quiet machine
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import scale_measures as measures

JOBS = 10_000

CORES = (1, 100, 1_000)

TEXT = (Path(__file__).parent / "scale.txt").read_text()


def measured(suite: str) -> dict[str, Any]:
    """All constants; seconds unless the name says otherwise."""
    found: dict[str, Any] = {
        "job": measures.job_s(suite),
        "start": measures.start_s(),
        "operations": measures.operations(),
        "call": measures.call_s(),
    }
    found["claims"] = {count: measures.claims_per_s(count) for count in (1, 2, 8)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "studies" / "s"
        protocol, done = measures.finished_study(folder, 50, 20)
        found["jobs"], found["sizes"] = len(done), measures.sizes(folder, done[0])
        found["read"], found["report"] = measures.leader_s(protocol, folder)
        found["sqlite"] = measures.recorded_s(protocol, done, folder, "mlflow")
        found["sqlite_bytes"] = (Path(place) / "mlflow.db").stat().st_size / 2 / len(done)
    found["files"] = {count: measures.files_s(count, found["sizes"]["result"]) for count in (1_000, 10_000)}
    with tempfile.TemporaryDirectory() as place, measures.postgres() as postgres:
        folder = Path(place) / "studies" / "s"
        protocol, done = measures.finished_study(folder, 10, 10)
        measures.leader_s(protocol, folder)
        stores = {"server on SQLite": f"sqlite:///{place}/server.db"}
        stores |= {"server on PostgreSQL": postgres} if postgres else {}
        for name, store in stores.items():
            with measures.served(store, Path(place) / "artifacts") as url:
                found[name] = measures.recorded_s(protocol, done, folder, url)
    return found


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def took(seconds: float) -> str:
    """Two digits or so, in the unit that fits."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{1000 * seconds:.{0 if seconds >= 0.01 else 2}f} ms"


def plan(found: dict[str, Any], job: float, cores: int) -> list[str]:
    """A row of the table: jobs and the start of workers are divided by the cores, what the leading process does is not."""
    played = JOBS * job / cores + found["start"]
    led = JOBS * (found["call"]["ray"] + found["read"] + found["sqlite"])
    return [f"{cores:,}", took(played), took(led), took(max(played, led) + found["report"])]


def constants(found: dict[str, Any]) -> str:
    """What was measured."""
    rows = [
        ["a job of a policy, on suite quick", took(found["job"]["proxmox"])],
        ["a job of the reference there", took(found["job"]["reference"])],
        ["start of a worker: imports, compiled code from the disk, a first short job", took(found["start"])],
        [
            "what a job leaves: result, progress",
            f"{found['sizes']['result'] / 1024:.0f} KiB, {found['sizes']['progress'] / 1024:.1f} KiB",
        ],
        *([f"a call through {name}, leading process", took(seconds)] for name, seconds in found["call"].items()),
        ["a finished job read, checked and written as rows, leading process", took(found["read"])],
        [f"summary and report of {found['jobs']:,} jobs, leading process", took(found["report"])],
        ["a job into the SQLite file of MLflow", f"{took(found['sqlite'])}, {found['sqlite_bytes'] / 1024:.0f} KiB"],
        *(
            [f"a job through an `mlflow {name}`", took(found[name])]
            for name in ("server on SQLite", "server on PostgreSQL")
            if name in found
        ),
        *(
            [f"claims taken and removed, {count} processes that want the same", f"{rate:,.0f} a second"]
            for count, rate in found["claims"].items()
        ),
        *(
            [
                f"a result in a folder of {count:,}: written to the disk, looked for, read",
                ", ".join(map(took, seconds.values())),
            ]
            for count, seconds in found["files"].items()
        ),
    ]
    return table(["constant", "measured"], rows)


def main() -> None:
    """Measure, and write the page."""
    found = measured(*(sys.argv[1:] or ["quick"]))
    job, reference = found["job"]["proxmox"], found["job"]["reference"]
    led = found["call"]["ray"] + found["read"] + found["sqlite"]
    head = ["cores", "played in", "leading process", "in all"]
    server = found.get("server on PostgreSQL", found["server on SQLite"])
    words = {
        "constants": constants(found),
        "policy": table(head, [plan(found, job, cores) for cores in CORES]),
        "reference": table(head, [plan(found, reference, cores) for cores in CORES]),
        "job": took(job), "reference_s": took(reference), "led": took(led),
        "most_cores": f"{job / led:,.0f}", "most_cores_reference": f"{reference / led:,.0f}",
        "without": f"{job / (led - found['sqlite']):,.0f}",
        "start": took(found["start"]), "share": f"{found['start'] / (found['start'] + job):.0%}",
        "bytes": f"{JOBS * sum(found['sizes'].values()) / 2**20:,.0f}",
        "db": f"{JOBS * found['sqlite_bytes'] / 2**20:,.0f}",
        "server_in_all": took(JOBS * server), "server": took(server),
        "claims": f"{found['claims'][8]:,.0f}", "operations": str(found["operations"]),
        "asked": f"{1000 * found['operations'] / job:,.0f}",
        "files": took(JOBS * found["files"][10_000]["look"]),
        "sqlite_rows": f"{1 / found['sqlite']:,.0f}",
    }  # fmt: skip
    (Path(__file__).parent / "scale.md").write_text(TEXT.format(**words))


if __name__ == "__main__":
    main()
