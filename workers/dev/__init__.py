"""The development stack: Temporal, its UI and a worker in one terminal."""
