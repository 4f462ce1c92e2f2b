"""Built-in samplers: one file each, found through entry points like everybody's."""
