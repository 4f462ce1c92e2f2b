"""Generation: draw samples from a trained model and write them to files."""
