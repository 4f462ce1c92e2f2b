"""Plugin registries, spec strings, and compatibility checks."""
