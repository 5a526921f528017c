"""The APIs that the front speaks: their requests as calls, and calls as their answers, streams and errors."""
