"""Built-in file formats: one file each, found through entry points like everybody's."""
