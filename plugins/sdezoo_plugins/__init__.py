"""Built-in plugins: one file each, found through entry points like everybody's."""
