"""Programs that show the dispatcher at work."""
