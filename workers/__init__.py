"""The processes: the worker and the development stack."""
