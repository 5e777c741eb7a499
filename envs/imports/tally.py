"""What was found and mended on the way, counted, so that nothing implausible passes in silence; and what may not be mended."""

from dataclasses import dataclass, field

from hvgym.envs.errors import InputError

MOST_WRONG = 0.005
"""Share of rows that may break what has to hold; more of them is a column that is read wrongly."""


DIFFER, MOST_DIFFER = "two rows of a VM at one time that differ, the first taken", 0.4
"""Exports that overlap differ where one is coarser; where two say something else of nearly every row, one of them is wrong."""

EXCHANGED, MOST_EXCHANGED = "guest_used larger than guest_notfree, which is it and the page cache", 0.5
"""Of a sound host none; of a published trace of servers whose columns are shares of unlike things 8 % (SMD)."""


@dataclass
class Found:
    """Of one kind: rows (or VMs), of how many, and the first of them."""

    count: int = 0
    total: int = 0
    example: str = ""


@dataclass
class Tally:
    """By kind, in words: ``values above configured memory, now unknown``. `doubled`: by hour since 1970, VMs with two different
    rows of one time. `apart`: names of VMs that were told apart, and what files call them. Of columns in per cent: `as_shares`,
    by VM the peaks that a share may have; `per_cent`, of the others how many pass these by far."""

    found: dict[str, Found] = field(default_factory=dict)
    doubled: dict[int, int] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)
    as_shares: dict[str, dict[str, float]] = field(default_factory=dict)
    per_cent: dict[str, Found] = field(default_factory=dict)
    strict: set[str] = field(default_factory=set)

    def add(self, kind: str, count: int, total: int, example: str = "", strict: bool = False) -> None:
        """`strict`: more than `MOST_WRONG` of all is an error."""
        known = self.found.setdefault(kind, Found())
        if count and not known.count:
            known.example = example
        known.count += count
        known.total += total
        if strict:
            self.strict.add(kind)

    def check(self) -> None:
        """Raise `InputError` for what is wrong too often to be an accident."""
        if (found := self.found.get(DIFFER)) and found.count > MOST_DIFFER * found.total:
            raise InputError(
                f"{found.count:,} of {found.total:,} rows are of a VM and a time that another row has with other values, first "
                f"{found.example}; two files that contradict each other, or two VMs of one name: give each VM once"
            )
        if (found := self.found.get(EXCHANGED)) and found.count > MOST_EXCHANGED * found.total:
            raise InputError(
                f"{EXCHANGED}: {found.count:,} of {found.total:,} rows, first {found.example}; are the two exchanged? "
                "columns={…} says which is which"
            )
        for kind in sorted(self.strict):
            found = self.found[kind]
            if found.count > MOST_WRONG * found.total:
                share = 100 * found.count / found.total
                raise InputError(
                    f"{kind}: {share:.3g} % of {found.total:,} rows, first {found.example}; at most {100 * MOST_WRONG:g} % are "
                    f"measuring errors, so a column or its unit is read wrongly: columns={{…}} and units={{…}} say what it is"
                )

    def lines(self) -> list[str]:
        """A line for each kind that was found."""
        return [
            f"{kind}: {found.count:,} of {found.total:,}{f' (first: {found.example})' if found.example else ''}"
            for kind, found in self.found.items()
            if found.count
        ]
