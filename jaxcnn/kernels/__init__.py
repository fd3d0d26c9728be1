"""Fast algorithms that an op may dispatch to, by platform and shape. README.md beside this file has
what was measured."""

__all__: list[str] = []
