"""Memory sizes for the VMs of one host, decided from figures that libvirt and /proc know. Python 3.9 or later, nothing else.

    state = {}
    sizes_mib = decide(vms, host, state, now_s)      # every PERIOD_S seconds

vms: a dictionary by name of dictionaries. Sizes and counters are in KiB, as `virsh dommemstat` prints them:
    actual, unused, usable, available, disk_caches, swap_in, swap_out, rss      as dommemstat has them
    maximum         configured memory (`virsh dominfo`, Max memory); needed
    minimum         what the VM is guaranteed; default 0
    target          the size last asked for; without it what it has, actual, counts as asked for
    weight, critical, shares, vcpus, limit, running, waiting
                    weight beside other VMs (1), 1 for a VM with an objective (0), memory shares (0), vCPUs (1), most host memory
                    behind it (none), 1 while it runs (1), 1 while it waits to start (0)
    overhead        what the hypervisor itself needs for it; default 0
    host_swap, host_swap_in, host_swap_out, disk, net, shared, compressed, committed
                    KiB in host swap, KiB read from and written to it so far, KiB of disk and network I/O so far, KiB shared and
                    compressed by the host, Committed_AS of the guest
    cpu_s, cpu_ready_s          CPU time and time waiting for a pCPU so far, seconds
    psi, io_psi, guest_psi      memory and I/O pressure of the VM's cgroup and memory pressure in the guest (some avg10), 0 to 1
    active_share                part of its pages seen active, 0 to 1
host: total, available, free, swap_total, swap_used, swap_in, swap_out, shared in KiB (counters so far), disk_utilisation,
    cpu_utilisation, psi (0 to 1), memory_state (0 ample to 4), scan_pages_per_s. total and available are needed.
state: what is kept from call to call; an empty dictionary at first. now_s: seconds, of any clock that goes on.

What is missing is left out or None. Weights read 0 for it, as they did in training. A tree, whose rules would take that for a
VM that is idle, says nothing of a VM for which something of NEEDS is missing, nor before a second reading of a counter in it.
The answer is in MiB, by name, and has no VM that does not run or whose size, actual, is unknown.

Run by itself it is a dry run: it reads readings from standard input and prints `virsh setmem` lines, and sets nothing.

    # NAME maximum=4194304 minimum=1048576 weight=2
    actual 4194304
    unused 1048576
    ...                     (virsh dommemstat NAME)
    @ 10                    (the next reading, 10 seconds later; sizes of `# host total=... available=...` may stand there too)

Without a `# host` line the host is this machine's /proc/meminfo.
"""

# mypy: ignore-errors
import sys

# --- the decision ---
PERIOD_S = 10.0
STEP = 0.1
LEAST_SHARE = 0.0  # of its memory, below which no VM is asked to go
LEAST_MIB = 0.0  # and below how much none is that has as much
RESCUES = False  # whether a guest that has nothing left is given what it reads from its own swap
WEIGHTS = {}
TREE = None
NEEDS = ()  # of the keys above, those that this policy reads; the host's begin with host.
# --- what follows is the same in every export ---

NAN = float("nan")
KIB_PER_MIB = 1024.0
AVERAGED_S = (60.0, 600.0)
HALF_MIB_PER_S = 16.0  # the rate that reads one half
MOST_WEIGHT, MOST_OVERCOMMIT = 4.0, 2.0
WORST_STATE, MOST_SCANNED = 4.0, 125000.0
MOST_PRICE, HALVINGS = 64.0, 30
NOTHING_SHARE, SPARE_SHARE = 0.01, 0.02

VM_RATES = (
    ("guest_swap_in_rate", "swap_in"), ("guest_swap_out_rate", "swap_out"), ("host_swap_in_rate", "host_swap_in"),
    ("disk_rate", "disk"), ("host_swap_out_rate", "host_swap_out"), ("net_rate", "net"),
)  # fmt: skip
VM_AVERAGED = (
    "guest_free", "guest_available", "guest_caches", "guest_swap_in_rate", "guest_swap_out_rate", "host_swap_in_rate",
    "host_swap", "resident", "disk_rate", "cpu", "host_psi",
)  # fmt: skip
VM_SHARES = (
    ("host_psi", "psi", NAN), ("host_io_psi", "io_psi", NAN), ("guest_psi", "guest_psi", NAN), ("critical", "critical", 0.0),
    ("running", "running", 1.0), ("waiting", "waiting", 0.0), ("active", "active_share", NAN),
)  # fmt: skip
VM_SIZES = (
    ("host_swap", "host_swap"), ("resident", "rss"), ("size", "actual"), ("target", "target"), ("minimum", "minimum"),
    ("limit", "limit"), ("shared", "shared"), ("compressed", "compressed"), ("committed", "committed"),
)  # fmt: skip
VM_MASKS = (
    ("has_balloon", "actual"), ("has_pressure", "psi"), ("has_committed", "committed"), ("has_agent", "guest_psi"),
    ("has_activity", "active_share"),
)  # fmt: skip
HOST_AVERAGED = ("available", "swap_used", "swap_in_rate", "swap_out_rate", "disk_utilisation")
REPORTED = ("unused", "usable", "disk_caches", "swap_in", "swap_out")
COUNTERS = ("swap_in", "swap_out", "host_swap_in", "host_swap_out", "disk", "net", "cpu_s", "cpu_ready_s")


def decide(vms, host, state, now_s):
    """Sizes in MiB by name; see above."""
    told = _told_enough(vms, host, state)
    of_host, weight, shares = _host_features(vms, host, state, now_s)
    ram, available, kept = _mib(host, "total"), _mib(host, "available"), state.setdefault("vms", {})
    seen = {}
    for name, vm in vms.items():
        seen[name] = dict(of_host)
        seen[name].update(_vm_features(vm, ram, weight, shares, kept, name, now_s))
    if TREE is not None:
        moved = {
            name: _asked(vm) + _branch(seen[name]) * _mib(vm, "maximum") for name, vm in vms.items() if name in told
        }
        return _told(vms, {name: _held(vms[name], size) for name, size in moved.items()})
    pulls = {name: _pull(features) for name, features in seen.items()}
    weights = {name: MOST_WEIGHT * features["weight"] or 1.0 for name, features in seen.items()}
    answers = _fitted(vms, pulls, weights, available - _awaited(vms, available))
    for name, vm in vms.items():
        read, has = kept[name]["read_mib"], _mib(vm, "usable")
        if RESCUES and read > 0.0 and has < NOTHING_SHARE * _mib(vm, "maximum") and available > SPARE_SHARE * ram:
            answers[name] = max(answers[name], min(_mib(vm, "actual") + read, _mib(vm, "maximum")))
    return _told(vms, answers)


def _told_enough(vms, host, state):
    """Names of VMs of which all that is needed is there."""
    of_host, kept = [key[len("host.") :] for key in NEEDS if key.startswith("host.")], state.get("vms", {})
    if not _is_there(of_host, host, state.get("host", {})):
        return set()
    needed = [key for key in NEEDS if not key.startswith("host.")]
    return {name for name, vm in vms.items() if _is_there(needed, vm, kept.get(name, {}))}


def _is_there(needed, row, kept):
    """Of a counter two readings: there is no rate in one."""
    before = {key: kept.get(key, NAN) for key in needed if key in COUNTERS}
    return all(row.get(key) is not None for key in needed) and all(value == value for value in before.values())


def _told(vms, sizes):
    """Those of VMs that run and whose size is known."""
    return {name: mib for name, mib in sizes.items() if mib == mib and _number(vms[name], "running", 1.0) > 0.0}


def _branch(features):
    """By which share of its memory a size moves."""
    node = TREE
    while isinstance(node, tuple):
        feature, at, below, above = node
        node = below if features[feature] <= at else above
    return node


def _pull(features):
    pull = 0.0
    for feature, weight in WEIGHTS.items():
        pull += weight * features[feature]
    return pull


def _asked(vm):
    return _mib(vm, "target", _mib(vm, "actual"))


def _held(vm, wanted):
    most = _mib(vm, "maximum")
    return min(max(wanted, _mib(vm, "minimum", 0.0), LEAST_SHARE * most, LEAST_MIB), most)


def _awaited(vms, available):
    """What VMs need that wait to be started, as far as the others could make room for it."""
    total, room = 0.0, 0.0
    for vm in vms.values():
        size, least = _mib(vm, "actual"), _held(vm, 0.0)
        if _number(vm, "running", 1.0) > 0.0 and size > least:
            room += size - least
    room = available + room
    for vm in vms.values():
        needed = _mib(vm, "maximum") + _mib(vm, "overhead", 0.0)
        if _number(vm, "waiting", 0.0) > 0.0 and total + needed <= room:
            total += needed
    return total


def _fitted(vms, pulls, weights, available):
    """Sizes by pulls less, over weights, the price at which they fit into what VMs have and the host has available."""

    def at(price):
        sizes = {}
        for name, vm in vms.items():
            left = pulls[name] - price / weights[name]
            asked = min(_asked(vm), _mib(vm, "actual"))
            sizes[name] = _held(vm, asked + STEP * _mib(vm, "maximum") * left / (1.0 + abs(left)))
        return sizes

    def in_all(sizes):
        total = 0.0
        for name, size in sizes.items():
            if _number(vms[name], "running", 1.0) > 0.0 and size == size:  # what cannot be read does not count
                total += size
        return total

    room = in_all({name: _mib(vm, "actual") for name, vm in vms.items()}) + available
    low, high = 0.0, MOST_PRICE
    if not in_all(at(0.0)) > room:
        return at(0.0)
    for _ in range(HALVINGS):
        price = 0.5 * (low + high)
        if in_all(at(price)) > room:
            low = price
        else:
            high = price
    return at(high)


def _number(row, key, default=NAN):
    value = row.get(key)
    return default if value is None else float(value)


def _mib(row, key, default=NAN):
    value = row.get(key)
    return default if value is None else float(value) / KIB_PER_MIB


def _share(part, whole):
    """In [0, 1]; 0 where one is missing, or there is nothing of which it could be a part."""
    if not whole > 0.0:
        return 0.0
    share = part / whole
    return min(share, 1.0) if share > 0.0 else 0.0


def _rate(now, before, seconds):
    per_s = (now - before) / seconds
    return per_s / (per_s + HALF_MIB_PER_S) if per_s > 0.0 else 0.0


def _average(features, names, kept, seconds):
    """Add the averages of these features; kept: those of the reading before, none at first."""
    for length_s in AVERAGED_S:
        part = seconds / (seconds + length_s)
        for name in names:
            key = f"{name}_{length_s:.0f}s"
            before = kept.get(key)
            features[key] = features[name] if before is None else before + part * (features[name] - before)
            kept[key] = features[key]


def _seconds(kept, now_s):
    seconds = max(now_s - kept["time_s"], 1.0) if "time_s" in kept else 1.0
    kept["time_s"] = now_s
    return seconds


def _host_features(vms, host, state, now_s):
    kept = state.setdefault("host", {})
    seconds = _seconds(kept, now_s)
    could = sizes = weight = shares = 0.0
    for vm in vms.values():
        could += _mib(vm, "maximum")
        sizes += _mib(vm, "actual") * _number(vm, "running", 1.0)
        weight += _number(vm, "weight", 1.0)
        shares += _number(vm, "shares", 0.0)
    ram, used = _mib(host, "total"), _mib(host, "swap_used")
    features = {"available": _share(_mib(host, "available"), ram), "swap_used": _share(used, _mib(host, "swap_total"))}
    for name, key in (("swap_in_rate", "swap_in"), ("swap_out_rate", "swap_out")):
        now = _mib(host, key)
        features[name] = _rate(now, kept.get(key, now), seconds)
        kept[key] = now
    features["disk_utilisation"] = _share(_number(host, "disk_utilisation"), 1.0)
    _average(features, HOST_AVERAGED, kept, seconds)
    features["cpu_utilisation"] = _share(_number(host, "cpu_utilisation"), 1.0)
    features["state"] = _share(_number(host, "memory_state"), WORST_STATE)
    features["overcommit"] = _share(could, MOST_OVERCOMMIT * ram)
    features["free"] = _share(_mib(host, "free"), ram)
    features["psi"] = _share(_number(host, "psi"), 1.0)
    features["shared_share"] = _share(_mib(host, "shared"), ram)
    features["scan_rate"] = _share(_number(host, "scan_pages_per_s"), MOST_SCANNED)
    features["sizes"] = _share(sizes, MOST_OVERCOMMIT * ram)
    features["has_psi"] = _known(host, "psi")
    many = max(len(vms), 1)
    return features, weight / many, shares / many


def _known(row, key):
    return 0.0 if row.get(key) is None else 1.0


def _vm_features(vm, ram, weight, shares, everyone, name, now_s):
    kept = everyone.setdefault(name, {})
    seconds = _seconds(kept, now_s)
    size, whole = _mib(vm, "actual"), _mib(vm, "maximum")
    features = {"constant": 1.0}
    for feature, key in (("guest_free", "unused"), ("guest_available", "usable"), ("guest_caches", "disk_caches")):
        features[feature] = _share(_mib(vm, key), size)
    swap_in = _mib(vm, "swap_in")
    kept["read_mib"] = swap_in - kept.get("swap_in", swap_in)
    for feature, key in VM_RATES:
        now = _mib(vm, key)
        features[feature] = _rate(now, kept.get(key, now), seconds)
        kept[key] = now
    for feature, key in (("cpu", "cpu_s"), ("cpu_ready", "cpu_ready_s")):
        now = _number(vm, key)
        features[feature] = _share(now - kept.get(key, now), _number(vm, "vcpus", 1.0) * seconds)
        kept[key] = now
    for feature, key in VM_SIZES:
        features[feature] = _share(_mib(vm, key), whole)
    for feature, key, default in VM_SHARES:
        features[feature] = _share(_number(vm, key, default), 1.0)
    features["share_of_ram"] = _share(whole, ram)
    features["weight"] = _share(_number(vm, "weight", 1.0), MOST_WEIGHT * weight)
    features["shares"] = _share(_number(vm, "shares", 0.0), MOST_WEIGHT * shares)
    _average(features, VM_AVERAGED, kept, seconds)
    for feature in ("idle_for_60s", "idle_for_480s", "woken_after_60s", "woken_after_480s", "has_page_ages"):
        features[feature] = 0.0  # ages of pages are not watched
    features["reports"] = max(_known(vm, key) for key in REPORTED)
    for feature, key in VM_MASKS:
        features[feature] = _known(vm, key)
    return features


def meminfo():
    """This machine as a host, for `decide`."""
    rows = {}
    with open("/proc/meminfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            rows[key] = float(value.split()[0])
    used = rows["SwapTotal"] - rows["SwapFree"]
    return {
        "total": rows["MemTotal"], "available": rows["MemAvailable"], "free": rows["MemFree"], "swap_total": rows["SwapTotal"],
        "swap_used": used,
    }  # fmt: skip


def _pairs(words):
    return {key: float(value) for key, _, value in (word.partition("=") for word in words)}


def _print(vms, host, state, now_s):
    if not vms:
        return
    for name, vm in vms.items():
        if "maximum" not in vm:
            sys.exit(f"{name}: maximum= is missing; write a line '# {name} maximum=KIB' above its dommemstat")
    for name, mib in decide(vms, host or meminfo(), state, now_s).items():
        print(f"virsh setmem {name} {round(mib * KIB_PER_MIB)} --live")


def _main(lines):
    """The dry run."""
    state, vms, host, now_s, current = {}, {}, {}, 0.0, None
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0] == "@":
            _print(vms, host, state, now_s)
        elif words[0] != "#" and current is None:
            sys.exit(f"{line.strip()}: stands before any VM; write a line '# NAME maximum=KIB' above")
        try:
            if words[0] == "@":
                now_s = float(words[1])
                host.update(_pairs(words[2:]))
            elif words[0] == "#" and words[1] == "host":
                host.update(_pairs(words[2:]))
            elif words[0] == "#":
                current = vms.setdefault(words[1], {})
                current.update(_pairs(words[2:]))
            else:
                current[words[0]] = float(words[1])
        except (IndexError, ValueError):
            sys.exit(f"{line.strip()}: expected '@ SECONDS', '# NAME KEY=NUMBER ...' or 'KEY NUMBER'")
    _print(vms, host, state, now_s)


if __name__ == "__main__":
    _main(sys.stdin)
