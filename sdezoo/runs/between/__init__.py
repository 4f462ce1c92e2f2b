"""Between data, what runs are asked for: `arrays` reads what a user gives in Python, `directions` keeps both models of a bridge."""
