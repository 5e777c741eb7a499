"""What people and programs are told of an import: a page of text, and the manifest."""

from collections.abc import Mapping
from typing import Any

from hvgym.envs.errors import many
from hvgym.envs.imports import sanity
from hvgym.envs.imports.clocks import day
from hvgym.envs.imports.importing import Imported, names_of, sha256_of
from hvgym.envs.imports.table import MEMORY
from hvgym.envs.imports.units import Reading

DECIDED_BY: Mapping[str, str] = {
    "data": "told by the data",
    "user": "said by you",
    "documentation": "as documentation says, data cannot tell",
    "sibling": "guessed from configured memory's",
    "nothing": "not needed",
}

INFERRED = (
    ("guest_used_bytes", ("guest_total", "guest_usable"), "guest_total less guest_usable"),
    ("guest_notfree_bytes", ("guest_total", "guest_unused"), "guest_total less guest_unused"),
    ("granted_bytes", ("balloon_taken",), "cap less balloon_taken"),
)


def manifest_of(imported: Imported) -> dict[str, Any]:
    """For programs; no clock, no path of this machine."""
    import hvgym

    request, clock = imported.request, imported.clock
    names = [""] * len(imported.files) if request.anonymise else names_of(imported.files)
    return {
        "source": request.source.name,
        "hvgym": hvgym.__version__,
        "command": command_of(imported),
        "made_by": request.source.command,
        "licence": request.source.licence,
        "files": [{"name": name, "sha256": sha256_of(file)} for name, file in zip(names, imported.files, strict=True)],
        "zone": request.options.zone or "UTC",
        "clock": {"unit": clock.unit, "relative": clock.relative, "evidence": clock.evidence},
        "step_s": clock.step_s,
        "start_s": clock.start_s,
        "end_s": clock.end_s,
        "columns": [_column(reading, request.anonymise) for reading in imported.readings.values()],
        "inferred": dict(_inferred(imported)),
        "all_zero": list(imported.empty),
        "vms": len(imported.meta),
        "samples": imported.samples,
        "known": {name: round(share, 6) for name, share in imported.known.items()},
        "left_out": len(imported.left_out),
        "checks": _checks(imported),
        "warnings": sanity.warnings(clock),
        "anonymised": request.anonymise,
    }


def _column(reading: Reading, anonymise: bool) -> dict[str, str]:
    return {
        "quantity": reading.quantity, "title": reading.title, "unit": reading.unit, "kind": reading.kind, "by": reading.by,
        "evidence": reading.evidence,
    }  # fmt: skip


def _checks(imported: Imported) -> dict[str, dict[str, Any]]:
    hidden = imported.request.anonymise
    return {
        kind: {"found": found.count, "of": found.total}
        | ({"first": found.example} if found.example and not hidden else {})
        for kind, found in imported.tally.found.items()
    }


def _inferred(imported: Imported) -> list[tuple[str, str]]:
    """Columns of the table that no column of the files is, and how they are made."""
    given = imported.readings
    found = [
        (name, how)
        for name, needed, how in INFERRED
        if name.removesuffix("_bytes") not in given and all(one in given for one in needed)
    ]
    if "cap" not in given:
        found.append(("cap_bytes", "caps=" if imported.request.options.caps_mib else "the most of guest_total"))
    return found


def command_of(imported: Imported) -> str:
    """What would make the same table anywhere else; without names where these are hidden."""
    request, options = imported.request, imported.request.options
    words = ["FILES"] if request.anonymise else names_of(imported.files)[:5]
    words += ["…"] if len(imported.files) > 5 and not request.anonymise else []
    keys = [
        f"{key}={{{','.join(f'{name}: {value}' for name, value in given.items())}}}"
        for key, given in (("columns", options.columns), ("units", options.units))
        if given
    ]
    keys += [f"zone={options.zone}"] * (options.zone is not None) + ["caps=…"] * bool(options.caps_mib)
    keys += ["groups=…"] * bool(request.groups) + ["anonymise=true"] * request.anonymise
    return " ".join(["hvgym import", request.source.name, *words, *keys])


def page_of(imported: Imported) -> str:
    """For people: import.txt, and what check=true prints."""
    parts = [_head(imported), _columns(imported), _lives(imported), _found(imported)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _head(imported: Imported) -> list[str]:
    clock, meta = imported.clock, imported.meta
    span = "" if clock.relative else f"{day(clock.start_s)} to {day(clock.end_s)} UTC, "
    return [
        f"{imported.request.source.title}: {many(len(imported.files), 'file')}, {many(len(meta), 'VM')} "
        f"with {imported.cap_mib / 1024:,.1f} GiB configured, {imported.samples:,} samples",
        f"{span}{(clock.end_s - clock.start_s) / 86400:.1f} days, a row every {clock.step_s:g} s",
        f"clock: {clock.unit} ({clock.evidence})",
    ]


def _columns(imported: Imported) -> list[str]:
    lines = ["Columns, as they were read:"]
    for reading in imported.readings.values():
        unit = reading.unit + ("/s" if reading.kind == "counter" else "")
        lines.append(
            f"  {reading.quantity} from '{reading.title}': {unit or 'a number'}, {DECIDED_BY[reading.by]}: {reading.evidence}"
        )
    lines += [f"  {name.removesuffix('_bytes')}: {how}" for name, how in _inferred(imported)]
    lines += [f"  {name}: 0 in every row, so nothing is known of it" for name in imported.empty]
    known = [
        f"{name.removesuffix('_bytes')} {100 * imported.known.get(name, 0.0):.1f} %"
        for name in MEMORY
        if imported.known.get(name)
    ]
    lines.append(f"  known of all samples: {', '.join(known)}")
    return lines


def _lives(imported: Imported) -> list[str]:
    meta = imported.meta
    came, left = ((meta[name] == "observed").sum() for name in ("arrive_kind", "depart_kind"))
    lines = [
        f"Lives: {came} VMs arrive and {left} leave within the history; of the others it is not known when they did"
    ]
    if imported.left_out:
        lines.append(f"  left out, as nothing says their size: {len(imported.left_out)}{_some(imported)}")
    groups = meta["group"].nunique()
    return [*lines, f"  groups (application, tenant): {groups or 'none known'}"]


def _some(imported: Imported) -> str:
    return "" if imported.request.anonymise else f" ({', '.join(sorted(imported.left_out)[:5])})"


def _found(imported: Imported) -> list[str]:
    tally = imported.tally
    found = [line.rpartition(" (first: ")[0] or line if imported.request.anonymise else line for line in tally.lines()]
    warned = [f"  warning: {line}" for line in sanity.warnings(imported.clock)]
    sound = sum(not one.count for one in tally.found.values())
    return [f"Checks: {sound} of {len(tally.found)} found nothing", *(f"  {line}" for line in found), *warned]
