"""Who decides: one policy a file, the clairvoyant bound, and learners."""
