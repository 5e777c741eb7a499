"""Inside one VM: its memory and the balloon in it, how old pages are, access patterns, and a JVM's heap.
Nothing here knows of a host."""
