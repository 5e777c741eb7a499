"""A training of a study done again from the study's folder alone, and what it leaves compared to the bit: the learning curve, all
weights of the network, and the rows that it plays.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from hvgym.bench.jobs import Done, train_network
from hvgym.bench.progress import Progress
from hvgym.bench.replay import Difference, differences, play_again
from hvgym.envs.errors import InputError


def train_again(done: Done, first: Done, folder: Path, seeds: Sequence[int]) -> tuple[list[str], list[Difference]]:
    """What differs in a training, in words, and in the rows of these seeds when its new network plays them. first: the job that
    trained the network of `done`, which may be the same one. Raises `InputError` where it cannot be trained or played."""
    with tempfile.TemporaryDirectory(prefix="hvgym-train-") as place:
        with Progress(Path(place) / "progress.jsonl", first.job.name, 0) as progress:
            model, curve = train_network(first.job, Path(place), progress)
        apart = [*_of_curves(first.curve, curve), *_of_networks(folder / str(first.model), Path(place) / model)]
        return apart, differences(done, play_again(done, Path(place), seeds))


def _of_curves(there: Sequence[Mapping[str, float]], here: Sequence[Mapping[str, float]]) -> Iterator[str]:
    for old, new in zip(there, here, strict=False):
        for name in old:
            if json.dumps(old[name]) != json.dumps(new.get(name)):
                yield f"curve at step {old['steps']:.0f} {name} {old[name]!r} there, {new.get(name)!r} here"
    if len(there) != len(here):
        yield f"curve of {len(there)} validations there, {len(here)} here"


def _of_networks(there: Path, here: Path) -> Iterator[str]:
    if not there.is_file():
        raise InputError(f"its network is not there ({there})")
    old, new = _weights(there), _weights(here)
    if old is None or new is None:
        if there.read_bytes() != here.read_bytes():
            yield f"{there.name} differs"
        return
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if a is None or b is None or a.shape != b.shape or a.tobytes() != b.tobytes():
            apart = "" if a is None or b is None or a.shape != b.shape else f" by up to {np.abs(a - b).max():.3g}"
            yield f"weights {name} differ{apart}"


def _weights(file: Path) -> dict[str, np.ndarray] | None:
    """By name, of a network or of a file of numbers; None for the form of a trainer from outside the package."""
    from hvgym.agents.learned.network import weights_of

    with suppress(InputError, ValueError, KeyError, AttributeError, TypeError):
        if file.suffix == ".json":
            return {name: np.array(value) for name, value in json.loads(file.read_bytes())["weights"].items()}
        return weights_of(file)
    return None
