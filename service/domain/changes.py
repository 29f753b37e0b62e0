"""What is other in one spec than in another, in the words of the API."""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from events.values import Bind, ContainerSpec, show_size


class SpecChange(Struct, frozen=True):
    """A field that differs. Empty is not there; an entry of a list has its key behind a dot."""

    field: str
    old: str
    new: str


def spec_changes(old: ContainerSpec, new: ContainerSpec) -> tuple[SpecChange, ...]:
    """Every difference, in a fixed order; none when the two are the same."""
    pairs = (
        ("imageName", old.image, new.image),
        ("gpuCount", str(old.gpu_count), str(new.gpu_count)),
        ("cpus", _cpus(old.nano_cpus), _cpus(new.nano_cpus)),
        ("memory", _size(old.memory_bytes), _size(new.memory_bytes)),
        ("shmSize", _size(old.shm_bytes), _size(new.shm_bytes)),
        ("pidsLimit", str(old.pids_limit or ""), str(new.pids_limit or "")),
        ("onExit", old.on_exit, new.on_exit),
        ("onGpuLost", old.on_gpu_lost, new.on_gpu_lost),
        ("maxRetries", str(old.max_retries), str(new.max_retries)),
        ("secretEnv", ", ".join(old.secret_env), ", ".join(new.secret_env)),
        ("cmd", " ".join(old.cmd), " ".join(new.cmd)),
        ("containerPorts", ", ".join(old.container_ports), ", ".join(new.container_ports)),
    )
    return (
        *(SpecChange(*pair) for pair in pairs if pair[1] != pair[2]),
        *_entries("env", _env(old), _env(new)),
        *_entries("binds", _binds(old), _binds(new)),
        *_entries("labels", old.labels, new.labels),
    )


def _entries(field: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[SpecChange]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, ""), new.get(key, "")
        if before != after or (key in old) != (key in new):
            yield SpecChange(f"{field}.{key}", before, after)


def _env(spec: ContainerSpec) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in spec.env)
    return {key: value for key, _, value in pairs}


def _binds(spec: ContainerSpec) -> dict[str, str]:
    return {bind.target: _source(bind) for bind in spec.binds}


def _source(bind: Bind) -> str:
    source = f"{bind.nfs.server}:{bind.nfs.path}" if bind.nfs is not None else bind.source
    return f"{source} (read-only)" if bind.read_only else source


def _cpus(nano_cpus: int | None) -> str:
    return "" if nano_cpus is None else f"{nano_cpus / 1e9:g}"


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else show_size(size_bytes)
