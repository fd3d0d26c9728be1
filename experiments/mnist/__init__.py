"""Handwritten digits, or any data set in the same files: ``python -m experiments.mnist --help``."""
