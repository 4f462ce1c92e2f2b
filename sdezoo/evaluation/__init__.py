"""Sample quality: measures that compare samples with held-out rows, their errors, and the values that real rows reach."""
