"""The worker's OpenTelemetry."""
