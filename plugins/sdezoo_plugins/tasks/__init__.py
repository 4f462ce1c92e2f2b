"""Built-in tasks beside score learning: one file each, registered through entry points as third-party plugins are."""
