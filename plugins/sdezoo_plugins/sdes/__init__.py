"""Built-in sdes: one file each, found through entry points like everybody's."""
