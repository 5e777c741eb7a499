"""The SQLite file that MLflow keeps under ``runs/``: its address, whether it can be written, where its artifacts lie, and
what went wrong with it in words. Nothing here imports mlflow.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from hvgym.envs.errors import InputError, in_words, nearest

PATIENCE_S = 20.0
"""How long to wait for another writer; one of ours is done in fractions of a second."""

SIGNS = {
    "connection refused": "no server there (the connection was refused)",
    "failed to resolve": "no such host",
    "name or service not known": "no such host",
    "timed out": "no answer in time",
    "timeout": "no answer in time",
    "invalid host header": "the server does not know itself by this name (its --allowed-hosts)",
    "remote end closed": "the connection was closed",
    "connection reset": "the connection was closed",
    "connection aborted": "the connection was closed",
    "no route to host": "no way to this host",
    "network is unreachable": "no way to this host",
}
"""What requests to a server say in many lines, and in words."""

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns in which MLflow keeps absolute addresses of artifacts."""


def database_uri(database: Path) -> str:
    """Absolute address for SQLAlchemy, which reads ``?`` as the end of a path and ``%25`` as ``%``; the driver is named because
    MLflow, where it is not, makes a folder of the quoted name.
    """
    return "sqlite+pysqlite:///" + str(database.resolve()).replace("%", "%25").replace("?", "%3F")


def path_of(uri: str) -> Path:
    """The local path of a ``file:`` address."""
    return Path(unquote(urlsplit(uri).path))


def probe(database: Path) -> None:
    """Raise sqlite3's error now when the file is damaged, or stays locked: MLflow tries for minutes."""
    with closing(sqlite3.connect(database, timeout=PATIENCE_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        connection.execute("ROLLBACK")
    if problem != "ok":
        raise sqlite3.DatabaseError(f"malformed: {problem}")


def relocate(database: Path, artifacts: Path) -> None:
    """Let all addresses below the folder of artifacts that the store was made with point to `artifacts`.

    So a folder of runs may be moved or copied. MLflow's first experiment, or else one of ours, tells the old folder.
    """
    new = artifacts.resolve().as_uri()
    with closing(sqlite3.connect(database, timeout=PATIENCE_S)) as connection, connection:
        old = _root(connection)
        if old in (None, new):
            return
        for table, column in LOCATIONS:
            if column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (new, len(str(old)) + 1, len(str(old)) + 1, f"{old}/"),
                )


def experiment(database: Path, study: str | None) -> str | None:
    """The id of a study's experiment, or else of the one that was recorded last; None where there is none.

    Raises `InputError` for a study that is not there.
    """
    with closing(sqlite3.connect(database, timeout=PATIENCE_S)) as connection:
        found = connection.execute(
            "SELECT experiment_id, experiments.name FROM experiments LEFT JOIN runs USING (experiment_id) "
            "WHERE experiments.lifecycle_stage = 'active' AND experiments.name LIKE 'hvgym/%' GROUP BY experiment_id "
            "ORDER BY max(coalesce(runs.end_time, runs.start_time, experiments.creation_time)) DESC, experiment_id DESC"
        ).fetchall()
    names = {str(name).removeprefix("hvgym/"): str(number) for number, name in found}
    if study is None:
        return next(iter(names.values()), None)
    if study not in names:
        known = ", ".join(list(names)[:12]) or "none"
        raise InputError(f"study={study!r}: not in {database}{nearest(study, names)}; the newest there: {known}")
    return names[study]


def _root(connection: sqlite3.Connection) -> str | None:
    for name, location in connection.execute("SELECT name, artifact_location FROM experiments ORDER BY experiment_id"):
        end = "/0" if name == "Default" else f"/{quote(str(name).removeprefix('hvgym/'))}"
        if str(location).startswith("file:") and str(location).endswith(end):
            return str(location).removesuffix(end)
    return None


@contextmanager
def explained(runs: Path, server: str = "") -> Iterator[None]:
    """What fails while MLflow records ends in one line with advice; the study itself does not need MLflow."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(_of_server(error, server) if server else _in_words(error, runs)) from error


def _in_words(error: BaseException, runs: Path) -> str:
    database, text = runs / "mlflow.db", " ".join(_chain(error)).lower()
    safe = "; finished jobs are safe, the same command goes on"
    if "database is locked" in text:
        return f"{database}: locked by another program; wait for it or end it, or choose tracking=none{safe}"
    if any(sign in text for sign in ("not a database", "malformed", "file is encrypted")):
        return (
            f"{database}: damaged; move it away and a new one is made (hvgym report STUDY tracking=mlflow records a study "
            f"again), or choose tracking=none{safe}"
        )
    if any(
        sign in text
        for sign in ("no such column", "no such table", "unable to open database", "db upgrade", "revision")
    ):
        return f"{database}: no store of this MLflow; move it away and a new one is made, or choose tracking=none{safe}"
    if "disk is full" in text or "no space left" in text:
        return f"{runs}: no space left on device while MLflow recorded; make room{safe}"
    if "readonly database" in text:
        return f"{database}: cannot be written; give yourself the right, or choose runs=DIR or tracking=none{safe}"
    reason = " ".join(in_words(error).split())
    return f"{database}: MLflow could not record: {reason[:300]}; tracking=none does without{safe}"


def _of_server(error: BaseException, server: str) -> str:
    text = " ".join(_chain(error)).lower()
    for sign, reason in SIGNS.items():
        if sign in text:
            return f"{server}: {reason}"
    return f"{server}: {' '.join(in_words(error).split())[:300]}"


def _chain(error: BaseException | None) -> list[str]:
    """Texts of an error and of those that led to it."""
    texts = list[str]()
    while error is not None and len(texts) < 20:
        texts.append(str(error))
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            texts.append("no space left")
        error = error.__cause__ or error.__context__
    return texts
