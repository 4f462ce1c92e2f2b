"""Laws of what a process says of itself: densities, walls, tails, what belongs to it, and bridges."""
