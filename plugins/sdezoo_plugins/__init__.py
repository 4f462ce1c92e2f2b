"""Built-in plugins: one file each, registered through entry points as third-party plugins are."""
