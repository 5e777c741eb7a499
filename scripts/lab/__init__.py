"""``hvgym lab``: ``verb`` chooses the experiment; ``guest``, ``device`` and ``jvm`` play and print one each, ``pictures`` draws.
``witness`` runs a real JVM beside the model (``make jvm-witness``)."""

from hvgym.scripts.lab.verb import main

__all__ = ["main"]
