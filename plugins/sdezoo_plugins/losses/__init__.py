"""Built-in losses: one file each, found through entry points like everybody's."""
