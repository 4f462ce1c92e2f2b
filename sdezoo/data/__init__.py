"""What data are: rows in the user's units, readers of files, and the map into the domain of a process."""
