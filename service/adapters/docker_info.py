"""What the engine says of itself, and which ways of handing out GPUs it has."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.ports import EngineInfo

_HOOK = "nvidia-container-runtime-hook"

# `nvidia-ctk cdi generate` writes YAML by default, always in block style with one key a line,
# so two patterns do instead of a YAML library: only devices have a key called `name`.
_YAML_KIND = re.compile(r'^kind:\s*"?([^"\s]+)"?\s*$', re.MULTILINE)
_YAML_NAME = re.compile(r'^\s*(?:-\s+)?name:\s*"?([^"\s]+)"?\s*$', re.MULTILINE)


def engine_info(info: Mapping[str, Any], api_version: str, *, local: bool) -> EngineInfo:
    """From the body of GET /info. `local`: the engine shares our file system."""
    cdi_devices = _cdi_devices(info, local=local)
    return EngineInfo(
        version=info.get("ServerVersion", ""),
        api_version=api_version,
        storage_driver=info.get("Driver", ""),
        root_dir=info.get("DockerRootDir", ""),
        cpus=info.get("NCPU", 0),
        memory_bytes=info.get("MemTotal", 0),
        gpu_runtimes=_gpu_runtimes(info, cdi_devices, local=local),
        cdi_devices=cdi_devices,
        local=local,
    )


def _gpu_runtimes(
    info: Mapping[str, Any], cdi_devices: tuple[str, ...], *, local: bool
) -> tuple[str, ...]:
    runtimes = []
    # dockerd looks for the hook on its own PATH, which it does not tell. Ours is a good guess
    # when it runs on this host, and a wrong guess shows as Docker's own error at start.
    if "nvidia" in (info.get("Runtimes") or {}) or (local and shutil.which(_HOOK)):
        runtimes.append("nvidia")
    if cdi_devices:
        runtimes.append("cdi")
    return tuple(runtimes)


def _cdi_devices(info: Mapping[str, Any], *, local: bool) -> tuple[str, ...]:
    """Engines of 28 and later list the devices; 25 to 27 only name the folders of the specs.

    An empty `CDISpecDirs` means that CDI is switched off (Docker Engine API, SystemInfo).
    """
    listed = info.get("DiscoveredDevices")
    if listed:
        return tuple(sorted(d["ID"] for d in listed if d.get("Source") == "cdi"))
    if not local:
        return ()
    names: set[str] = set()
    for folder in info.get("CDISpecDirs") or ():
        for file in sorted(Path(folder).glob("*")):
            if file.suffix in (".json", ".yaml", ".yml"):
                names.update(_spec_devices(file))
    return tuple(sorted(names))


def _spec_devices(file: Path) -> list[str]:
    """The qualified names in one spec file; none when it cannot be read or understood."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    try:
        spec = json.loads(text)
        return [f"{spec['kind']}={device['name']}" for device in spec["devices"]]
    except (ValueError, KeyError, TypeError):
        kind = _YAML_KIND.search(text)
        return [f"{kind[1]}={name}" for name in _YAML_NAME.findall(text)] if kind else []
