"""Experiments with jaxcnn, each run as ``python -m experiments.NAME`` from the root of the
repository.

What they have in common is in ``command`` (settings and exit statuses), ``files``, ``images`` and
``progress``; pictures are in the style of ``jaxcnn._io.drawing``."""
