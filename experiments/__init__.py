"""Experiments with jaxcnn, each run as ``python -m experiments.NAME`` from the root of the repository."""
