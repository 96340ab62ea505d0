"""Numbers with intervals: estimates, bootstrap, paired test, correlation. NumPy and SciPy only."""
