"""A JVM workload as ``conf/jvm`` describes it, and a JVM guest of a scenario that runs one.

`Workload` holds what was measured of an application: its smallest heap, its rate of allocation, the time that it takes over
the heap (``model.guest.jvm`` says what the curve means). `JvmGuest` gives it a heap and says how the heap answers when memory is
asked for. The compiled model is imported where it is needed, for a list of scenarios must not wait for numba.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from hvgym.envs.errors import InputError
from hvgym.envs.schema import build, number

MEASURED_AT = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Heaps over the smallest at which ``measured_times`` were measured; the unit is the time at ten."""

MEASURED_THREADS = 32.0
"""Threads of the machine on which workloads were measured."""

MEDIAN_ALLOC_MB_PER_S = 2400.0
"""Allocation rate of a workload for which none was published: the median of the others."""

LEAST_LIVE_SHARE = 0.5
"""Of the smallest heap, where the fitted b is below: a flat curve says nothing of b (a guess)."""

T = TypeVar("T")


def checked(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """Build from the keys of a group; every error names the key behind its group."""
    try:
        return build(cls, data, where)
    except InputError as error:
        raise InputError(str(error).replace(f"{where}: ", f"{where}.", 1)) from None


class Curve(NamedTuple):
    """T(h) = t0 + a / (h - b)."""

    t0: float
    a: float
    b: float

    def at(self, heap_times: float) -> float:
        """Relative time in a heap of so many times the smallest."""
        from hvgym.envs.model.guest import jvm

        return float(jvm.relative_time(heap_times, *self))


@dataclasses.dataclass(frozen=True)
class Workload:
    """A JVM workload; fields as in ``conf/jvm``. measured_times stand at `MEASURED_AT`."""

    name: str
    description: str
    least_heap_mib: float = number(above=0)
    alloc_mb_per_s: float | None = number(above=0)
    iteration_s: float = number(above=0)
    t0: float = number(above=0)
    a: float = number(least=0)
    b: float = number(least=-1, most=0.9999)
    measured_times: tuple[float, ...] = number(above=0)
    first_iteration_times: float = number(least=1)
    interpreter_times: float = number(above=0)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Workload":
        """Check plain data. Raises `InputError` with the key, the value, and what would be right."""
        return checked(Workload, data, "jvm")

    def __post_init__(self) -> None:
        if len(self.measured_times) not in (0, len(MEASURED_AT)):
            raise InputError(
                f"measured_times={list(self.measured_times)}: expected {len(MEASURED_AT)} values, at "
                f"{', '.join(f'{h:g}' for h in MEASURED_AT)} times the smallest heap, or none"
            )

    @property
    def curve(self) -> Curve:
        """Time over heap."""
        return Curve(self.t0, self.a, self.b)

    @property
    def live_mib(self) -> float:
        """What the curve takes for the live set."""
        return self.least_heap_mib * max(self.b, LEAST_LIVE_SHARE)

    @property
    def alloc_mib_per_s(self) -> float:
        """Allocation rate of `MEASURED_THREADS`."""
        return (self.alloc_mb_per_s or MEDIAN_ALLOC_MB_PER_S) * 1e6 / 2**20


@dataclasses.dataclass(frozen=True)
class JvmGuest:
    """A JVM in a VM. least_heap_mib and alloc_mib_per_s scale the workload; without them they are the measured ones, allocation
    in proportion to vCPUs.

    `heap_aware`: the balloon sits in the heap (EM4J). `uncommit`: how an idle application's heap shrinks, after `idle_s` (300 is
    ZGC's default). Stacks for 50 threads are a guess.
    """

    workload: Workload
    xmx_mib: float = number(above=0)
    xms_mib: float = number(0.0, least=0)
    least_heap_mib: float | None = number(None, above=0)
    alloc_mib_per_s: float | None = number(None, above=0)
    threads: float = number(50.0, least=1)
    heap_aware: bool = False
    uncommit: Literal["never", "g1_periodic", "zgc"] = "never"
    idle_s: float = number(300.0, above=0)

    def __post_init__(self) -> None:
        from hvgym.envs.model.guest import jvm

        if self.xms_mib > self.xmx_mib:
            raise InputError(f"xms_mib={self.xms_mib:g}: must be at most xmx_mib={self.xmx_mib:g}")
        if self.xmx_mib < jvm.STORM_BELOW * self.least_mib:
            raise InputError(
                f"xmx_mib={self.xmx_mib:g}: {self.workload.name} needs {jvm.STORM_BELOW * self.least_mib:.0f}; below, it does "
                "little but collect"
            )

    @property
    def least_mib(self) -> float:
        """Smallest heap in which the workload survives."""
        return self.least_heap_mib or self.workload.least_heap_mib

    @property
    def live_share(self) -> float:
        """Live data over the smallest heap."""
        return self.workload.live_mib / self.workload.least_heap_mib

    @property
    def non_heap_mib(self) -> float:
        """Memory of the JVM beside its heap."""
        from hvgym.envs.model.guest import jvm

        return float(jvm.non_heap_mib(self.xmx_mib, self.threads))

    def allocation_mib_per_s(self, vcpus: float) -> float:
        """Rate of allocation on so many vCPUs."""
        return self.alloc_mib_per_s or self.workload.alloc_mib_per_s * vcpus / MEASURED_THREADS
