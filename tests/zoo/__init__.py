"""Laws of `sdezoo.zoo`."""
