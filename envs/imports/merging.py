"""What files say of one VM at one time in pieces (a metric a file, a section a quantity) put into one row.

Rows of a VM, aggregate and time are one where none contradicts another: each number is said by one of them, or alike by several,
and they name one host and one identity, or none. Rows that differ, and rows that only say the same again, stay as they are:
`convert` tells of them.
"""

from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.imports.source import QUANTITIES

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("vm", "agg", "time")

IDENTITIES = ("host", "uuid")

SAME = 1e-9
"""Relative difference of numbers that are one."""


def merged(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The same rows in the same order, pieces of one row in the place of the first of them."""
    keys = [name for name in KEYS if name in frame]
    pieces = frame.duplicated(keys, keep=False).to_numpy()
    if not pieces.any():
        return frame
    import pandas as pd

    rows = frame[pieces]
    groups = rows.groupby(keys, sort=False, observed=True, dropna=False)
    one = _agree(rows, groups)
    joined = rows.copy()
    for name in frame.columns.difference(keys):
        values = _without_unknown(rows[name])
        joined[name] = values.groupby([rows[key] for key in keys], sort=False, observed=True, dropna=False).transform(
            "first"
        )
    joined = joined[one & ~rows.duplicated(keys).to_numpy()]
    return pd.concat([frame[~pieces], rows[~one], joined]).sort_index(kind="stable").reset_index(drop=True)


def _agree(rows: "pd.DataFrame", groups: "pd.api.typing.DataFrameGroupBy") -> np.ndarray:
    """Rows of whose VM and time nothing is said twice and differently, and something by one row alone."""
    agree, more = np.ones(len(rows), bool), np.zeros(len(rows), bool)
    many = groups["time"].transform("size").to_numpy()
    for name in (name for name in QUANTITIES if name in rows):
        least, most = groups[name].transform("min").to_numpy(), groups[name].transform("max").to_numpy()
        agree &= ~(most - least > SAME * np.abs(most))
        saying = groups[name].transform("count").to_numpy()
        more |= (saying > 0) & (saying < many)
    for name in (name for name in (*IDENTITIES, "power") if name in rows):
        codes = _said(rows) if name == "power" else _codes(rows[name])
        by_group = codes.groupby([rows[key] for key in KEYS if key in rows], sort=False, observed=True, dropna=False)
        agree &= ~(by_group.transform("max") > by_group.transform("min")).to_numpy()
    return agree & more


def _without_unknown(values: "pd.Series") -> "pd.Series":
    """Text as such; power that is unknown says nothing."""
    values = values if values.dtype.kind in "fib" else values.astype(object)
    return values.where(values != "unknown", None) if values.name == "power" else values


def _codes(texts: "pd.Series") -> "pd.Series":
    codes = texts.astype("category").cat.codes.astype(float)
    return codes.where(codes >= 0)


def _said(rows: "pd.DataFrame") -> "pd.Series":
    return rows["power"].astype(object).map({"on": 1.0, "off": 0.0})
