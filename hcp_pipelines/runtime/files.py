"""Files that others read while they are written."""

from pathlib import Path


def put_whole(path: Path, text: str) -> None:
    """Put a text in place in one step: a reader finds what was there before, or all of it. Its folder is there."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
