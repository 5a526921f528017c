"""Programs that run in the environments of the adapters. Each prints one JSON document."""
