"""Data known by its content.

>>> threes = checksum(np.zeros(3))
>>> threes == checksum(np.zeros(3)), threes == checksum(np.zeros((3, 1)))
(True, False)
"""

import hashlib

import numpy as np


def checksum(*parts: np.ndarray | bytes) -> str:
    """The SHA-256 of all of them: of arrays their dtypes, shapes and contents."""
    found = hashlib.sha256()
    for part in parts:
        about = "" if isinstance(part, bytes) else f"{part.dtype} {part.shape}"
        content = (
            part
            if isinstance(part, bytes)
            else np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        )
        found.update(f"{about} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()
