"""A stand-in for the NVIDIA driver's library, for processes that a test starts.

The real pynvml loads `libnvidia-ml.so.1` by name, so a test gives the process under test a folder
with ours in LD_LIBRARY_PATH; the loader reads that variable once, at the start of a process, which
is why it works for child processes only. What the "driver" shows is a text file that the test may
change at any time (the header of nvml_stub.c lists its lines).
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
LIBRARY = "libnvidia-ml.so.1"
CC = ("cc", "-shared", "-fPIC", "-O1", "-Wall", f"-Wl,-soname,{LIBRARY}")


def build_library() -> Path:
    """Compile the stub once per content and user; return the folder that holds it.

    Test workers run this at the same time: each builds under a name of its own, and renaming is
    atomic, so whoever comes last replaces the file with an equal one.
    """
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(CC).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"nvml-stub-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else: remove it")
    library = folder / LIBRARY
    if not library.exists():
        unfinished = folder / f"{LIBRARY}.{os.getpid()}"
        subprocess.run([*CC, "-o", str(unfinished), str(SOURCE)], check=True)
        unfinished.rename(library)
    return folder


class NvmlStub:
    """One pretended driver: a control file in `folder`, four GPUs until told otherwise."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._control = folder / "nvml.conf"
        self._mtime_ns = 0
        path = [str(build_library()), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        self.env = {"LD_LIBRARY_PATH": ":".join(path), "FAKE_NVML": str(self._control)}
        """What a child process needs in its environment, on top of what it has."""
        self.write()

    def write(self, gpus: int = 4, **lines: int | str) -> None:
        """Show these GPUs from now on; `write(8, **{"gpu.3.lost": 1})` for lines with dots.

        The file is replaced in one step, and with a later mtime each time: the stub reads it
        again when the mtime changes, and two writes may fall into one tick of the clock.
        """
        text = "".join(f"{key}={value}\n" for key, value in {"gpus": gpus, **lines}.items())
        unfinished = self._control.with_suffix(".new")
        unfinished.write_text(text)
        self._mtime_ns = max(self._mtime_ns + 1, unfinished.stat().st_mtime_ns)
        os.utime(unfinished, ns=(self._mtime_ns, self._mtime_ns))
        unfinished.replace(self._control)
