"""vSphere through govc: ``govc metric.sample -json``, and ``govc vm.info -json`` for names and sizes.

Form as govmomi writes it (cli/metric/sample.go, performance/manager.go): a list of entities, for each the times of its samples
and the values of each counter beside them; keys in small letters now, with a capital in older versions. Text output divides
percent by 100, JSON does not: ``mem.usage`` and ``cpu.usage`` are in hundredths of percent here (the latter
is divided). Samples name a VM by its managed object (vm-42); vm.info says which name and size that is. Negative values are missing
samples.

Left out: instances (devices, single CPUs) beside the aggregate, and entities that are no VMs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.reading import documents, files_of
from hvgym.envs.imports.source import Batch, Column, Options, Source
from hvgym.envs.imports.vsphere import COUNTERS, INSTEAD

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    **COUNTERS,
    "mem.usage.average": replace(COUNTERS["mem.usage.average"], unit="hundredths"),
    "cpu.usage.average": replace(COUNTERS["cpu.usage.average"], title="cpu.usage.average, divided by 100"),
}
CAP = Column("cap", "vm.info: memorySizeMB", "MiB")
VCPUS = Column("vcpus", "vm.info: numCpu")


@dataclass(frozen=True)
class Vm:
    """What vm.info says of one."""

    name: str
    cap_mib: float
    vcpus: float
    uuid: str | None


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every VM. Files of ``vm.info -json`` may be among the files, and behind those that need them, so all are read twice:
    no more than one document is in memory."""
    files, known, samples = files_of(paths, SOURCE.patterns), dict[str, Vm](), False
    for file in files:
        for document in _documents(file):
            if (vms := _at(document, "virtualMachines")) is not None:
                known.update(_vms(file, vms))
            elif (entities := _at(document, "sample")) is not None:
                samples = _list(file, "sample", entities) is not None
            else:
                keys = ", ".join(document) if isinstance(document, dict) else type(document).__name__
                raise InputError(
                    f"{file}: neither samples nor VMs ({shown(keys)}); give what govc metric.sample -json "
                    "and govc vm.info -json say"
                )
    if not samples:
        raise InputError(f"{files[0]}: no samples in any file; give what govc metric.sample -json says")
    empty, counters = True, set[str]()
    for file in files:
        for document in _documents(file):
            for place, entity in enumerate(_at(document, "sample") or ()):
                if (batch := _entity(file, f"sample[{place}]", entity, known)) is not None:
                    empty = False
                    yield batch
                elif empty:
                    counters |= _counters(entity)
    if empty:
        raise InputError(
            f"{files[0]}: no sample of a VM as a whole (instance '') with a counter that is read; there are "
            f"{shown(', '.join(sorted(counters)), 160) if counters else 'none at all'}, wanted are {', '.join(COLUMNS)}"
        )


def _counters(entity: Any) -> set[str]:
    """Those of a sample, for a message."""
    value = _at(entity, "value")
    return {str(_at(one, "name")) for one in value} if isinstance(value, list) else set()


def _documents(file: Path) -> Iterator[Any]:
    for found in documents(file):
        yield from found if isinstance(found, list) else [found]


def _at(mapping: Any, key: str) -> Any:
    """A key in small letters or with a capital; None where it is not there."""
    if not isinstance(mapping, dict):
        return None
    return mapping.get(key, mapping.get(key[0].upper() + key[1:]))


def _list(file: Path, where: str, found: Any) -> list[Any]:
    if isinstance(found, list):
        return found
    raise InputError(f"{file}: {where} is {shown(found, 40)}, expected a list as govc writes it")


def _vms(file: Path, vms: Any) -> dict[str, Vm]:
    known = dict[str, Vm]()
    for place, vm in enumerate(_list(file, "virtualMachines", vms)):
        config = _at(_at(vm, "summary"), "config") or {}
        name = _at(vm, "name") or _at(config, "name")
        number = _at(_at(vm, "self"), "value")
        if not isinstance(name, str) or not isinstance(number, str):
            raise InputError(
                f"{file}: virtualMachines[{place}] has no name or no self.value; give what govc vm.info -json says"
            )
        size, cpus = _at(config, "memorySizeMB"), _at(config, "numCpu")
        where = f"virtualMachines[{place}].summary.config"
        cap_mib, vcpus = _known(file, f"{where}.memorySizeMB", size), _known(file, f"{where}.numCpu", cpus)
        known[number] = Vm(name, cap_mib, vcpus, _at(config, "instanceUuid"))
    return known


def _known(file: Path, where: str, value: Any) -> float:
    """A number of vm.info; NaN where it says none, or 0."""
    return _number(file, where, value) if value else np.nan


def _number(file: Path, where: str, value: Any) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError:  # a whole number of 309 digits or more
        pass
    raise InputError(f"{file}: {where} is {shown(value, 40)}, expected a number as govc writes it")


def _entity(file: Path, where: str, entity: Any, known: Mapping[str, Vm]) -> Batch | None:
    reference = _at(entity, "entity") or {}
    number = _at(reference, "value")
    if _at(reference, "type") not in (None, "VirtualMachine"):
        return None
    if not isinstance(number, str):
        raise InputError(f"{file}: {where}.entity.value is {shown(number)}, expected the VM's managed object, as vm-42")
    info = _list(file, f"{where}.sampleInfo", _at(entity, "sampleInfo") or [])
    series = _series(file, where, entity, len(info))
    if not info or not series:
        return None
    frame = _times(file, where, info)
    vm = known.get(number, Vm(number, np.nan, np.nan, None))
    frame = frame.assign(vm=vm.name, agg="mean", end=True, cap=vm.cap_mib, vcpus=vm.vcpus)
    if vm.uuid is not None:
        frame["uuid"] = vm.uuid
    for column, values in series:
        frame[column.quantity] = values
    return Batch(file, frame, (CAP, VCPUS, *(column for column, _ in series)))


def _series(file: Path, where: str, entity: Any, samples: int) -> list[tuple[Column, np.ndarray]]:
    """Of each counter of the whole VM that is known, its values."""
    series = [
        one for one in _list(file, f"{where}.value", _at(entity, "value") or []) if _at(one, "instance") in (None, "")
    ]
    names = {_at(one, "name") for one in series}
    found = list[tuple[Column, np.ndarray]]()
    for one in series:
        name = _at(one, "name")
        if name in COLUMNS and INSTEAD.get(name) not in names:
            values = _numbers(file, f"{where}.value {name}", _at(one, "value"), samples)
            found.append((COLUMNS[name], values / 100 if name == "cpu.usage.average" else values))
    return found


def _numbers(file: Path, where: str, values: Any, samples: int) -> np.ndarray:
    values = _list(file, where, values)
    if len(values) != samples:
        raise InputError(f"{file}: {where}: {len(values)} values for {samples} times; is the file cut off, or edited?")
    numbers = np.array([_number(file, f"{where}[{place}]", value) for place, value in enumerate(values)], np.float64)
    return np.where(numbers < 0, np.nan, numbers)


def _times(file: Path, where: str, info: list[Any]) -> "pd.DataFrame":
    import pandas as pd

    time_s, interval_s = [], []
    for place, sample in enumerate(info):
        stamp, interval = _at(sample, "timestamp"), _at(sample, "interval")
        try:
            date = datetime.fromisoformat(stamp)
        except (TypeError, ValueError):
            date = None
        if date is None or date.tzinfo is None:
            raise InputError(
                f"{file}: {where}.sampleInfo[{place}].timestamp is {shown(stamp, 40)}, expected a date as 2024-05-01T00:05:00Z"
            )
        time_s.append(date.timestamp())
        where_s = f"{where}.sampleInfo[{place}].interval"
        interval_s.append(
            _number(file, where_s, interval) if isinstance(interval, int | float) and interval > 0 else np.nan
        )
    return pd.DataFrame({"time": np.array(time_s), "interval_s": np.array(interval_s)})


SOURCE = Source(
    name="govc",
    title="vSphere: govc metric.sample -json",
    command=(
        "govc metric.sample -json -i 300 -n 288 -instance - vm/* mem.active.average mem.consumed.average mem.vmmemctl.average "
        "mem.swapped.average mem.compressed.average cpu.usage.average cpu.ready.summation > stats.json; "
        "govc vm.info -json vm/* > vms.json"
    ),
    columns=(CAP, VCPUS, *COLUMNS.values()),
    patterns=("*.json",),
    read=read,
    notes=(
        "Give both files: samples name VMs by their managed object (vm-42), vm.info says their names and sizes.",
        "-n is 5 where it is not said, and -i real time: say both; 288 intervals of 300 s are the day that vCenter keeps.",
        "Percent are hundredths in JSON and not in text; text is not read.",
        "cpu.usagemhz alone leaves CPU unknown, for nothing says what MHz a VM may have: export cpu.usage.",
        "Active is sampled: pages touched lately, far below what the guest uses.",
    ),
)
