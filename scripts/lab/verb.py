"""``hvgym lab``: one guest, a JVM, or devices on the laboratory bench; prints a table, writes lab.csv and lab.png."""

from pathlib import Path

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.lab import device, guest, jvm


@configuration.verb("lab")
def main(config: DictConfig) -> None:
    """Run the experiment."""
    out = _folder(config)
    device.check_keys(config)
    if jvm.chosen(config):
        jvm.run(config, out)
    elif config.device is not None:
        device.run(config, out)
    elif config.preset is not None:
        guest.compare(config, out)
    else:
        guest.run(config, out)


def _folder(config: DictConfig) -> Path:
    if not isinstance(config.out, str) or not config.out:
        raise InputError(f"out={config.out!r}: expected a folder")
    return Path(config.out).expanduser().resolve()
