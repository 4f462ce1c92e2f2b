"""No plugins: mathematics that several processes share."""
