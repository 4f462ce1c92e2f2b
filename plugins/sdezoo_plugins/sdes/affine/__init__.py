"""Affine processes: normal noise on coordinates of the data, with closed forms for everything."""
