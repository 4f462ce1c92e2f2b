"""Built-in networks: one file each, found through entry points like everybody's."""
