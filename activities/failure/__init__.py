"""Read a failure into the facts that the workflow classifies."""
