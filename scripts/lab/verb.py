"""``hvgym lab``: one guest, squeezed or copied, a JVM, devices, or a host that fails on the laboratory bench; prints a
table, writes lab.csv and lab.png."""

from pathlib import Path

from omegaconf import DictConfig

from hvgym.scripts import configuration
from hvgym.scripts.lab import device, failure, guest, jvm, migration


@configuration.verb("lab")
def main(config: DictConfig) -> None:
    """Run the experiment."""
    out = _folder(config)
    device.check_keys(config)
    migration.check_keys(config)
    failure.check_keys(config)
    if jvm.chosen(config):
        jvm.run(config, out)
    elif config.device is not None:
        device.run(config, out)
    elif config.migrate is not None:
        migration.run(config, out)
    elif config.fail is not None:
        failure.run(config, out)
    elif config.preset is not None:
        guest.compare(config, out)
    else:
        guest.run(config, out)


def _folder(config: DictConfig) -> Path:
    """As given, or below runs; each job of a multirun has a folder of its own."""
    runs, given = configuration.runs_folder(config), configuration.path(config, "out")
    return (given or runs / "lab") / configuration.swept_name()
