"""A file system of its own for an engine's data, in an image file behind a loop device."""

import subprocess
from pathlib import Path

SIZE_BYTES = 4 << 30  # sparse


def make_file_system(point: Path, kind: str) -> None:
    """Make it beside `point` and mount it there; CalledProcessError when that fails.

    `kind` as mkfs names it. The loop device goes with the mount, however that ends.
    """
    image = point.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    point.mkdir()
    for command in (
        [f"mkfs.{kind}", "-q", str(image)],
        ["mount", "-o", "loop", str(image), str(point)],
    ):
        subprocess.run(command, check=True, capture_output=True)
