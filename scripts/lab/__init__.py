"""``hvgym lab``: ``verb`` chooses the experiment; ``guest``, ``migration``, ``device``, ``jvm`` and ``failure`` play and
print one each, ``pictures``, ``copies`` and ``timelines`` draw. ``witness`` runs a real JVM beside the model
(``make jvm-witness``)."""

from hvgym.scripts.lab.verb import main

__all__ = ["main"]
