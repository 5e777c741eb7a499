"""A wheel of the code that runs, made from the imported package itself: the same from a checkout as from an installed wheel.

Its version ends in a digest of its files (0.1.0+1a2b3c4d), so that two states of a checkout are two versions. It installs with
pip as any other; what it needs is what the installed package says it needs.
"""

import base64
import csv
import hashlib
import importlib
import io
import re
import zipfile
from importlib import metadata
from pathlib import Path

import hvgym

PARTS = ("agents", "bench", "conf", "envs", "scripts")
SUFFIXES = (".py", ".yaml", ".java", ".typed")
STAMP = (2020, 1, 1, 0, 0, 0)
"""Of every file in it: the same code gives the same wheel."""


def make_wheel(folder: Path) -> Path | None:
    """Write the wheel into a folder; None where the package runs without having been installed, as nothing says what it needs."""
    try:
        about = metadata.distribution("hvgym")
        described = about.read_text("METADATA") or about.read_text("PKG-INFO")  # the second where a build has left it
    except metadata.PackageNotFoundError:
        return None
    if described is None:
        return None
    files = _files()
    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + files[name] for name in sorted(files))).hexdigest()[:8]
    version = f"{hvgym.__version__}+{digest}"
    info = f"hvgym-{version}.dist-info"
    files[f"{info}/METADATA"] = re.sub(r"(?m)^Version: .*$", f"Version: {version}", described, count=1).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: hvgym\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = (about.read_text("entry_points.txt") or "").encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    wheel = folder / f"hvgym-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, STAMP), files[name], zipfile.ZIP_DEFLATED)
    return wheel


def _files() -> dict[str, bytes]:
    """Contents of the package's files by their place in the wheel."""
    top = Path(hvgym.__file__).parent
    places = {path: f"hvgym/{path.name}" for path in top.iterdir() if path.suffix in SUFFIXES}
    for part in PARTS:
        folder = Path(importlib.import_module(f"hvgym.{part}").__path__[0])
        found = (path for path in folder.rglob("*") if path.suffix in SUFFIXES and "__pycache__" not in path.parts)
        places |= {path: f"hvgym/{part}/{path.relative_to(folder).as_posix()}" for path in found}
    return {name: path.read_bytes() for path, name in places.items()}


def _record(files: dict[str, bytes], own: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        writer.writerow([name, f"sha256={digest}", len(files[name])])
    writer.writerow([own, "", ""])
    return text.getvalue().encode()
