"""What a patch makes of a spec, and whether the container needs to be another one for it."""

from typing import Any

from msgspec.structs import replace

from events.values import Bind, ContainerSpec, split_versioned
from projections.state import Revision
from service.domain.commands import BindAt, BindChange, PatchReplicaSet
from service.domain.rejections import Reason, Rejected


def patched(spec: ContainerSpec, command: PatchReplicaSet) -> ContainerSpec | Rejected:
    """The spec with what is given in its place; all of it, or a refusal."""
    spec = replace(
        spec,
        image=spec.image if command.image is None else command.image,
        gpu_count=spec.gpu_count if command.gpu_count is None else command.gpu_count,
        cmd=spec.cmd if command.cmd is None else command.cmd,
        container_ports=(
            spec.container_ports if command.container_ports is None else command.container_ports
        ),
        nano_cpus=_limit(spec.nano_cpus, command.nano_cpus),
        memory_bytes=_limit(spec.memory_bytes, command.memory_bytes),
        shm_bytes=_limit(spec.shm_bytes, command.shm_bytes),
        pids_limit=_limit(spec.pids_limit, command.pids_limit),
        on_exit=spec.on_exit if command.on_exit is None else command.on_exit,
        max_retries=spec.max_retries if command.max_retries is None else command.max_retries,
        on_gpu_lost=spec.on_gpu_lost if command.on_gpu_lost is None else command.on_gpu_lost,
    )
    env = _patched_env(spec.env, command)
    if isinstance(env, Rejected):
        return env
    binds = spec.binds
    if command.bind is not None:
        changed = _changed_bind(binds, command.name, command.bind)
        if isinstance(changed, Rejected):
            return changed
        binds = changed
    bound = _patched_binds(binds, command.name, command.binds)
    if isinstance(bound, Rejected):
        return bound
    return replace(spec, env=env, secret_env=_marked(spec, env, command), binds=bound)


def _limit(before: int | None, given: int | None) -> int | None:
    return before if given is None else given or None


def _patched_env(env: tuple[str, ...], command: PatchReplicaSet) -> tuple[str, ...] | Rejected:
    """Each variable keeps its place; new ones follow in the order given."""
    values = {entry.partition("=")[0]: entry for entry in env}
    for given in command.env:
        key, equals, _ = given.partition("=")
        if equals:
            values[key] = given
        elif values.pop(key, None) is None:
            have = ", ".join(values) or "none"
            return Rejected(
                Reason.ENV_NOT_FOUND, f"env {key} is not set for {command.name}; set are: {have}"
            )
    return tuple(values.values())


def _marked(
    spec: ContainerSpec, env: tuple[str, ...], command: PatchReplicaSet
) -> tuple[str, ...]:
    """A mark stays for as long as there is the variable."""
    there = {entry.partition("=")[0] for entry in env}
    return tuple(sorted(there & {*spec.secret_env, *command.secret_env}))


def _changed_bind(
    binds: tuple[Bind, ...], name: str, change: BindChange
) -> tuple[Bind, ...] | Rejected:
    old = next((bind for bind in binds if _is_or_was(bind, change.old)), None)
    if old is None:
        have = ", ".join(f"{b.source}:{b.target}" for b in binds) or "none"
        return Rejected(
            Reason.BIND_NOT_FOUND,
            f"volumePatch.oldBind {change.old.source}:{change.old.target} is not one of the"
            f" binds of {name}: {have}",
        )
    if any(b.target == change.new.target for b in binds if b != old):
        return Rejected(
            Reason.BIND_TARGET_TAKEN,
            f"volumePatch.newBind.dest {change.new.target} is mounted already",
        )
    return tuple(change.new if bind == old else bind for bind in binds)


def _is_or_was(bind: Bind, asked: Bind) -> bool:
    """Is this the bind asked for, or did a resize move it on from there since?

    Clients of the predecessor patch bar-1 to bar-2 themselves, once they have resized bar.
    """
    if bind == asked:
        return True
    now, then = split_versioned(bind.source), split_versioned(asked.source)
    if now is None or then is None or bind.target != asked.target:
        return False
    return now[0] == then[0] and now[1] > then[1]


def _patched_binds(
    binds: tuple[Bind, ...], name: str, given: tuple[BindAt, ...]
) -> tuple[Bind, ...] | Rejected:
    at = {bind.target: bind for bind in binds}
    for wish in given:
        if wish.source:
            at[wish.target] = Bind(wish.source, wish.target)
        elif at.pop(wish.target, None) is None:
            have = ", ".join(at) or "nothing"
            return Rejected(
                Reason.BIND_NOT_FOUND,
                f"nothing is mounted at {wish.target} in {name}; mounted are: {have}",
            )
    return tuple(at.values())


def updates_in_place(current: Revision, spec: ContainerSpec) -> bool:
    """May the running container be given the new limits, and stay?

    What is done when it ends is the service's own business, and Docker's with no field of it.
    Not when anything else differs, nor when one is taken away (Docker can only change
    it), nor with GPUs that the NVIDIA hook put into it: an update can take them out again
    (nvidia-container-runtime issue 55).
    """
    before = current.spec
    hooked = bool(current.gpus) and current.gpu_runtime == "nvidia"
    old, new = _limits(before), _limits(spec)
    same_else = (
        replace(
            before,
            nano_cpus=spec.nano_cpus,
            memory_bytes=spec.memory_bytes,
            pids_limit=spec.pids_limit,
            on_exit=spec.on_exit,
            max_retries=spec.max_retries,
            on_gpu_lost=spec.on_gpu_lost,
        )
        == spec
    )
    taken_away = any(b is not None and a is None for b, a in zip(old, new, strict=True))
    return same_else and spec != before and (old == new or not (taken_away or hooked))


def _limits(spec: ContainerSpec) -> tuple[int | None, ...]:
    """Those that Docker can change in a running container."""
    return spec.nano_cpus, spec.memory_bytes, spec.pids_limit


def resources(before: ContainerSpec, spec: ContainerSpec) -> dict[str, Any]:
    """The limits as the body of Docker's POST /containers/{id}/update; empty when none differs."""
    body: dict[str, Any] = {}
    if _limits(before) == _limits(spec):
        return body
    if spec.nano_cpus is not None:
        body["NanoCpus"] = spec.nano_cpus
    if spec.memory_bytes is not None:
        body["Memory"] = spec.memory_bytes
        # What Docker itself adds when a container is made; it must never be below the memory.
        body["MemorySwap"] = 2 * spec.memory_bytes
    if spec.pids_limit is not None:
        body["PidsLimit"] = spec.pids_limit
    return body
