"""Built-in guides, one a file."""
