"""Data: rows in the user's units, file readers, and the encoding into the domain of a process."""
