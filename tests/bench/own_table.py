"""A table of VM history written by hand, for tests of what is made of one."""

import numpy as np
import pandas as pd

GIB = 2.0**30
START_S = 1_780_272_000  # a midnight, UTC


def write_table(folder, used_gib, size_gib=4.0, interval_s=60, vcpus=2, group=None, **columns):
    """`used_gib`: a row a VM, by name; its page cache is empty and the host backs what it uses, unless columns say otherwise.

    Columns are in GiB ``[row]`` or one number, by name of the table without ``_bytes``.
    """
    frames = []
    for name, used in used_gib.items():
        used = np.asarray(used, np.float64)
        size = size_gib[name] if isinstance(size_gib, dict) else size_gib
        known = {"guest_used": used, "guest_cache": 0.0, "backed": used, "cap": size} | columns
        frames.append(pd.DataFrame({
            "vm_id": name,
            "t_end_utc_s": START_S + interval_s * np.arange(1, len(used) + 1),
            "interval_s": interval_s,
            "vcpus": vcpus,
            "cpu_used_cores": 0.1,
            **{f"{column}_bytes": GIB * np.asarray(values) for column, values in known.items() if values is not None},
        }))  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).to_csv(folder / "vm_samples.csv", index=False)
    if group:
        pd.DataFrame({"vm_id": list(group), "group": list(group.values())}).to_csv(folder / "vm_meta.csv", index=False)
    return folder
