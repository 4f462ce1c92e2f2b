"""The laws, one module for each group."""
