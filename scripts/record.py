"""``hvgym record host=FILE out=DIR``: the history of a real host's VMs, as hvgym import would write it."""

import math
import time

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration, real_host


@configuration.verb("record")
def main(config: DictConfig) -> None:
    """Read, write a row a VM, until the end."""
    from hvgym.envs.real.host import open_host
    from hvgym.envs.real.recorder import Recorder, rows
    from hvgym.envs.real.settings import read_host

    seconds = real_host.seconds_of(config)
    out, every_s = configuration.path(config, "out"), configuration.needed(config, "every_s", least=1, most=3600)
    if out is None:
        raise InputError("out=null: name the folder of the table")
    settings = read_host(real_host.host_file(config))
    if seconds < every_s:
        raise InputError(f"minutes={seconds / 60.0:g}: shorter than every_s={every_s}, so there would be no row")
    host, recorder = open_host(settings), Recorder(out)
    try:
        before = host.reset([0])
        print(f"record {settings.name}: {', '.join(host.names)} each {every_s} s into {recorder.file}", flush=True)
        for _ in range(int(seconds // every_s)) if seconds < math.inf else iter(int, 1):
            now = host.advance(every_s)
            recorder.add(rows(host.names, settings.name, round(time.time()), before, now))
            before = now
    finally:
        recorder.close()
        host.close()
    print(recorder.file)
    print(f"next: hvgym advise workload={out} host.ram_mib=… hypervisor=kvm")
