"""Training runs from the command line: ``python -m jaxcnn train``, ``eval`` and ``predict``. Needs
the extra ``jaxcnn[train]``."""
