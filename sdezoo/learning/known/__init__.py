"""What a model of a table knows before its network learns: the best linear denoiser, and the shares of categories, bits and marks."""
