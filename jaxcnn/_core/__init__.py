"""The pair and what it stands on: knows no op, no layer and no file. May import JAX and NumPy."""
