"""The laboratory bench: one guest squeezed, one copied, one device under load, one JVM in its heap, each alone.
``hvgym lab`` (``scripts/lab``) prints and draws it."""
