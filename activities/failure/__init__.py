"""Reading a failure: the facts that the workflow classifies."""
