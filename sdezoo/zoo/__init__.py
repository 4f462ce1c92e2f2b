"""Names to objects, and what composes with what."""
