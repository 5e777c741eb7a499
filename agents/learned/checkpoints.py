"""The whole state of a training with Stable-Baselines3, kept so that it goes on to the bit after a kill at any moment.

A checkpoint holds the model with its optimisers, the hosts in mid-episode, every generator, the learning curve, and what an
algorithm's own file leaves out: SAC's replay buffer, a recurrent policy's memories. It is written beside the old one and swapped in:
a kill leaves one of the two. It is a pickle, one's own working file: go on with trainings of your own only.
"""

import pickle
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned import network
from hvgym.agents.learned.training import Validation

APART = ("replay_buffer", "_last_lstm_states", "weights", "ep_info_buffer")
"""What Stable-Baselines3 leaves out of a model's file, or puts there in another form, and training goes on with."""


def save(folder: Path, model: Any, curve: list[Validation]) -> None:
    """Everything, or what was there before."""
    import torch

    fresh, kept, old = folder / "checkpoint.new", folder / "checkpoint", folder / "checkpoint.old"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    model.save(fresh / "model.zip")
    state = {
        "env": model.get_env(),
        "curve": curve,
        "apart": {name: getattr(model, name) for name in APART if hasattr(model, name)},
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - SB3 draws minibatches from it
        "python": random.getstate(),
    }
    (fresh / "state.pkl").write_bytes(pickle.dumps(state, protocol=5))
    shutil.rmtree(old, ignore_errors=True)
    if kept.exists():
        kept.rename(old)
    fresh.rename(kept)
    shutil.rmtree(old, ignore_errors=True)


def restore(folder: Path, algorithm: Any) -> tuple[Any, list[Validation]] | None:
    """The state of an interrupted training, or None; says so where a checkpoint cannot be read."""
    for kept in (folder / "checkpoint", folder / "checkpoint.old"):
        if not kept.exists():
            continue
        try:
            model, curve = _read(kept, algorithm)
            network.load(folder / "best.zip")
            return model, curve
        except Exception as error:  # a damaged pickle raises anything
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            print(f"{kept}: damaged ({reason}); the training goes on without it", file=sys.stderr, flush=True)
    return None


def _read(kept: Path, algorithm: Any) -> tuple[Any, list[Validation]]:
    import torch

    state = pickle.loads((kept / "state.pkl").read_bytes())
    model = algorithm.load(kept / "model.zip", env=state["env"], device="cpu", force_reset=False)
    for name, value in state["apart"].items():
        setattr(model, name, value)
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    return model, list(state["curve"])
