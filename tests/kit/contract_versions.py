"""What the contract server shows of versions: as Docker spells them, and how they differ."""

from collections import Counter
from typing import Any

from tests.kit.contract_world import CREATED, ReplicaSet, Version, World


def history_of(name: str, found: ReplicaSet, *, counts: bool) -> list[dict[str, Any]]:
    """Every version, newest first; the newest is the one that counts, unless none does."""
    entries = []
    for before, version in zip([None, *found.versions], found.versions, strict=False):
        current = counts and version is found.versions[-1]
        entries.append(
            {
                "version": version.number,
                "createTime": CREATED.isoformat(),
                "verb": version.verb,
                "diskKept": not current,
                "diskBytes": None if current else version.number << 20,
                "pinned": False,
                "diskGone": "",
                "diskWith": None,
                "changed": [] if before is None else spec_changes(before, version),
                "status": info_of(name, version),
                **version.shown,
            }
        )
    return entries[::-1]


def spec_changes(old: Version, new: Version) -> list[dict[str, str]]:
    """Of the fields that are plain numbers and texts."""
    fields = sorted(
        field
        for field in old.body.keys() | new.body.keys()
        if isinstance(new.body.get(field, old.body.get(field)), int | str)
        and old.body.get(field) != new.body.get(field)
    )
    return [
        {"field": field, "old": _text(old.body, field), "new": _text(new.body, field)}
        for field in fields
    ]


def _text(body: dict[str, Any], field: str) -> str:
    return str(body.get(field, ""))


def files_of(world: World) -> dict[str, Any]:
    """How system disks differ, counted, and the first of it listed."""
    counts = Counter(file["kind"] for file in world.files)
    listed = world.files[: world.files_listed_max]
    return {
        **{kind: counts[kind] for kind in ("added", "changed", "deleted")},
        "listed": listed,
        "truncated": len(listed) < len(world.files),
    }


def info_of(name: str, version: Version) -> dict[str, Any]:
    """A version as Docker's API spells it."""
    body = version.body
    return {
        "version": version.number,
        "createTime": CREATED.isoformat(),
        "containerName": f"{name}-{version.number}",
        "gpus": list(version.gpus),
        "onExit": body.get("onExit", "none"),
        "maxRetries": body.get("maxRetries", 0),
        "onGpuLost": body.get("onGpuLost", "none"),
        "config": {"Image": body["imageName"], "Env": body.get("env"), "Cmd": body.get("cmd")},
        "hostConfig": {
            "Mounts": [
                {"Type": "bind", "Source": bind["src"], "Target": bind["dest"]}
                for bind in body.get("binds", [])
            ],
            "PortBindings": {k: [{"HostPort": str(v)}] for k, v in version.ports.items()},
            "DeviceRequests": [
                {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={uuid}"]} for uuid in version.gpus
            ],
            "NanoCpus": int(body.get("cpus", 0) * 1e9),
            "Memory": 4 << 30 if body.get("memory") else 0,
            **({"PidsLimit": body["pidsLimit"]} if "pidsLimit" in body else {}),
        },
    }
