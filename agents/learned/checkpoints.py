"""The whole state of a training, kept so that it goes on to the bit after a kill at any moment.

Of Stable-Baselines3's learners a checkpoint holds the model with its optimisers, the hosts in mid-episode, every generator, the
learning curve, and what an algorithm's own file leaves out: SAC's replay buffer, a recurrent policy's memories. It is written
beside the old one and swapped in: a kill leaves one of the two. It is a pickle, one's own working file: go on with trainings of
your own only.
"""

import pickle
import random
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hvgym.agents.learned import network
from hvgym.agents.learned.training import Validation

T = TypeVar("T")

APART = ("replay_buffer", "_last_lstm_states", "weights", "ep_info_buffer", "action_space")
"""What Stable-Baselines3 leaves out of a model's file, or makes anew, and training goes on with; from the space SAC draws its first
actions."""


def swap(folder: Path, files: Mapping[str, bytes | Callable[[Path], Any]]) -> None:
    """Put these files in the place of the last checkpoint; each is its content, or writes itself to a path."""
    fresh, kept, old = folder / "checkpoint.new", folder / "checkpoint", folder / "checkpoint.old"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for name, content in files.items():
        if isinstance(content, bytes):
            (fresh / name).write_bytes(content)
        else:
            content(fresh / name)
    shutil.rmtree(old, ignore_errors=True)
    if kept.exists():
        kept.rename(old)
    fresh.rename(kept)
    shutil.rmtree(old, ignore_errors=True)


def first_whole(folder: Path, read: Callable[[Path], T]) -> T | None:
    """What the last checkpoint holds, or the one before; says so where one cannot be read, or the best network is damaged."""
    for kept in (folder / "checkpoint", folder / "checkpoint.old"):
        if not kept.exists():
            continue
        try:
            found = read(kept)
            network.load(folder / "best.zip")
            return found
        except Exception as error:  # a damaged pickle raises anything
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            print(f"{kept}: damaged ({reason}); the training goes on without it", file=sys.stderr, flush=True)
    return None


def save(folder: Path, model: Any, curve: list[Validation]) -> None:
    """Keep the state of a model of Stable-Baselines3."""
    import torch

    state = {
        "env": model.get_env(),
        "curve": curve,
        "first_seed": model.first_seed,
        "apart": {name: getattr(model, name) for name in APART if hasattr(model, name)},
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - SB3 draws minibatches from it
        "python": random.getstate(),
    }
    swap(folder, {"model.zip": model.save, "state.pkl": pickle.dumps(state, protocol=5)})


def restore(folder: Path, algorithm: Any) -> tuple[Any, list[Validation]] | None:
    """The state of an interrupted training with Stable-Baselines3, or None."""
    return first_whole(folder, lambda kept: _read(kept, algorithm))


def _read(kept: Path, algorithm: Any) -> tuple[Any, list[Validation]]:
    import torch

    state = pickle.loads((kept / "state.pkl").read_bytes())
    model = algorithm.load(kept / "model.zip", env=state["env"], device="cpu", force_reset=False)
    model.first_seed = state["first_seed"]
    for name, value in state["apart"].items():
        setattr(model, name, value)
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    return model, list(state["curve"])
