"""How good samples are: measures of two sets of rows, their errors, and what real rows reach."""
