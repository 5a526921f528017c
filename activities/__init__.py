"""The outside world: one provider attempt. The only importer of litellm."""
