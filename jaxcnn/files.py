"""Files that are never seen half written."""

import os
from pathlib import Path


def write_file(path: Path, content: bytes | str) -> None:
    """``content`` as the whole of ``path``, all at once: written aside, then renamed. Text is written as UTF-8."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
