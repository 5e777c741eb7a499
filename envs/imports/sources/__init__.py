"""Where VM history comes from: one file a source, each with a `Source` named ``SOURCE`` (``envs.imports.source``)."""
