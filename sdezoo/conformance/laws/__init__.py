"""The laws, one module per group."""
