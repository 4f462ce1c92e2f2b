"""Laws over everything that is registered."""
