"""Commands that show the service: what there is to lend, what is going on, what it runs on."""

from typing import Annotated

import typer

from events.values import show_size
from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import Node, Operation, Ports, StepProgress, read
from service.cli.failures import Unreachable
from service.cli.progress import STEP_WORDS, step_of
from service.cli.session import Session, command
from service.cli.volumes import PANEL

HANDED_OVER = {
    "nvidia": "by the NVIDIA container runtime",
    "cdi": "as CDI devices",
    "simulated": "not at all: they are simulated",
    "none": "not at all",
}
"""How GPUs come into containers, by the API's word for it."""


def register(app: typer.Typer) -> None:
    """Add the commands to the app, in the order that --help shows."""
    command(app, "ports", panel=PANEL, past=True)(ports)
    command(app, "op", panel=PANEL, past=True)(operation)
    command(app, "version", panel=PANEL)(version)


def ports(session: Session) -> None:
    """Show the host ports: how many are left, and which are lent."""
    data = session.api.get(path_of("resources", "ports"))
    found = read(data, Ports).ports
    text = f"{found.available_count} free of {found.start_port}-{found.end_port}\n"
    rows = [(str(port.host_port), port.container_port, port.holder) for port in found.details]
    if rows:
        text += show.table(("HOST PORT", "CONTAINER PORT", "USED BY"), rows)
    session.print(data, text)


def operation(
    session: Session,
    operation_id: Annotated[str, typer.Argument(metavar="ID", help="What --detach printed")],
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for its end; fail when it failed")
    ] = False,
) -> None:
    """Show an operation: its state and the steps done."""
    if wait and session.at:
        raise typer.BadParameter("--wait is about what is to come, and --at about the past")
    if wait:
        session.follow(operation_id)
    data = session.api.get(path_of("operations", operation_id))
    session.print(data, _described(read(data, Operation)))


def version(session: Session) -> None:
    """Show the version of this command and of the service."""
    from importlib.metadata import version as version_of

    own = version_of("gpuledger")
    try:
        served: str | None = read(session.api.get(path_of("node")), Node).version
    except Unreachable:
        served = None
    pairs = [("gpuledger", own), ("service", served or "out of reach")]
    session.print({"client": own, "service": served}, show.details(pairs))


def show_service(session: Session) -> None:
    """Print what the service is, what it runs on, and how it does things there."""
    data = session.api.get(path_of("node"))
    node = read(data, Node)
    pairs = [
        ("service", session.api.server),
        ("node", node.node),
        ("owner", node.owner),
        ("gpuledger", node.version),
        *node.versions.items(),
        ("GPUs", node.gpu_detail),
        ("handed over", HANDED_OVER.get(node.gpu_runtime, node.gpu_runtime)),
        ("system disks", node.disk_detail),
        ("volumes", node.volume_detail),
    ]
    session.print(data, show.details(pairs))


def _share(progress: StepProgress) -> str:
    """How much of it is done, where that is known."""
    if not progress.total_bytes:
        return ""
    return f": {show_size(progress.done_bytes)} of {show_size(progress.total_bytes)}"


def _said(key: str, value: object) -> str:
    return f"{key} {'; '.join(map(str, value)) if isinstance(value, list) else value}"


def step_text(text: str) -> str:
    """A step that failed begins with the API's word for it."""
    word, failed, why = text.partition(" failed: ")
    return f"{STEP_WORDS.get(word, word)}{failed}{why}"


def _described(found: Operation) -> str:
    """State, what came of it, and the steps with their times."""
    pairs = [
        ("operation", found.id),
        ("what", f"{found.verb} {found.name}"),
        ("state", found.state),
        ("accepted", show.moment(found.accepted_time)),
        ("finished", show.moment(found.finished_time or "")),
    ]
    if found.state == "failed":
        pairs.append(("error", f"{found.message} (code {found.code})"))
    if found.progress is not None:
        pairs.append(("going on", f"{step_of(found.progress)}{_share(found.progress)}"))
    if found.result:
        pairs.append(("result", ", ".join(_said(*item) for item in found.result.items())))
    steps = [(show.moment(step.at), step_text(step.text)) for step in found.steps]
    return show.details(pairs) + (f"\n{show.table(('TIME', 'STEP'), steps)}" if steps else "")
