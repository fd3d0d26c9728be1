"""``python -m jaxcnn verify`` and ``precision``: options, tasks, the processes that do them, and
what is shown meanwhile."""
