"""``hvgym lab``: ``verb`` chooses the experiment; ``guest``, ``migration``, ``device`` and ``jvm`` play and print one each,
``pictures`` and ``copies`` draw. ``witness`` runs a real JVM beside the model (``make jvm-witness``)."""

from hvgym.scripts.lab.verb import main

__all__ = ["main"]
