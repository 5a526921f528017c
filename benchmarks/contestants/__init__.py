"""What is measured side by side: each a worker, if it has one, and a caller, in an environment of its own."""
