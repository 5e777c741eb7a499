"""What a multirun (``-m``) sweeps over. Hydra tells its jobs their own values, and not which of them others have differently.

The keys go from the process that starts the sweep to its jobs in the environment, which every launcher on one machine hands on.
Where they are missing, every key that the command gives counts as swept.
"""

import json
import os
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

VARIABLE = "HVGYM_SWEPT"


class NoteSweep(Callback):
    """Named in a verb's YAML; Hydra calls it once, before the first job."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note which keys have several values."""
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        keys = [override.key_or_group for override in overrides if override.is_sweep_override()]
        os.environ[VARIABLE] = json.dumps(keys)


def swept_keys() -> list[str] | None:
    """The keys of the sweep that this job is of; None where nobody noted them."""
    noted = os.environ.get(VARIABLE)
    return None if noted is None else [str(key) for key in json.loads(noted)]
