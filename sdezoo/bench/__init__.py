"""Speed, memory and evaluations, as ratios to something measured beside them in the same run: what `sdezoo bench` prints."""
