"""Commands for GPUs: who has which, and which are not lent."""

from typing import Annotated

import typer

from events.values import show_size
from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import Gpu, Gpus, read
from service.cli.failures import NotFound
from service.cli.session import AsJson, At, CaCert, Server, Session, Token, command, opened
from service.cli.volumes import PANEL

SIMULATED = "These GPUs are SIMULATED: containers get none."

BY = {"policy": "by itself", "hand": "by hand"}
"""Who put a GPU in quarantine, by the API's word for it."""

Which = Annotated[
    str, typer.Argument(metavar="GPU", help="Its UUID, or its index as 'gpus' shows it")
]


def register(app: typer.Typer) -> None:
    """Add the group to the app; without a subcommand it lists."""
    group = typer.Typer(name="gpus", help="List the GPUs and who has them; quarantine or restore.")
    group.callback(invoke_without_command=True)(_list_or_more)
    command(group, "quarantine")(quarantine)
    command(group, "restore")(restore)
    app.add_typer(group, rich_help_panel=PANEL)


def _list_or_more(
    ctx: typer.Context,
    server: Server = None,
    token: Token = None,
    ca_cert: CaCert = None,
    as_json: AsJson = False,
    at: At = None,
) -> None:
    """List the GPUs and who has them, how they fare, and why one is not lent."""
    if ctx.invoked_subcommand is not None and at is not None:
        raise typer.BadParameter(f"--at is not for {ctx.invoked_subcommand}, which is done now")
    if ctx.invoked_subcommand is None:
        with opened(ctx) as session:
            listing(session)


def listing(session: Session) -> None:
    """List the GPUs and who has them."""
    data = session.api.get(path_of("resources", "gpus"))
    found = read(data, Gpus).details
    rows = [
        (str(gpu.index), gpu.name, show_size(gpu.memory_bytes), _used_by(gpu), gpu.uuid)
        for gpu in found
    ]
    headings = ("INDEX", "NAME", "MEMORY", "USED BY", "UUID")
    text = show.table(headings, rows, whole=("UUID",))
    if any(gpu.simulated for gpu in found):
        text = f"{SIMULATED}\n{text}"
    text += "".join(f"GPU {gpu.index}: {_trouble(gpu)}\n" for gpu in found if gpu.why)
    session.print(data, text if rows else f"no GPUs at {session.api.server}\n")


def quarantine(
    session: Session,
    which: Which,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="For people: what is wrong")],
) -> None:
    """Do not lend a GPU; whoever has it keeps it."""
    gpu = _find(session, which)
    path = path_of("resources", "gpus", gpu.uuid, "quarantine")
    done = f"GPU {gpu.index} is not lent any more"
    session.change("POST", path, {"why": why}, done=lambda _: done)


def restore(session: Session, which: Which) -> None:
    """Lend a GPU again, healthy or not."""
    gpu = _find(session, which)
    path = path_of("resources", "gpus", gpu.uuid, "quarantine")
    session.change("DELETE", path, done=lambda _: f"GPU {gpu.index} is lent again")


def _find(session: Session, which: str) -> Gpu:
    """The GPU that is meant. Raises NotFound, and BadParameter when it could be several."""
    found = read(session.api.get(path_of("resources", "gpus")), Gpus).details
    same = [gpu for gpu in found if which in (gpu.uuid, str(gpu.index))]
    if len(same) > 1:  # a GPU that is gone may have left its index to another
        same = [gpu for gpu in same if gpu.present] or same
    if len(same) > 1:
        uuids = ", ".join(gpu.uuid for gpu in same)
        raise typer.BadParameter(f"{which} could be {uuids}; give the UUID", param_hint="GPU")
    if not same:
        raise NotFound(f"there is no GPU {which} at {session.api.server}; see: gpuledger gpus")
    return same[0]


def _used_by(gpu: Gpu) -> str:
    """Who has it, else whether it can be had."""
    if gpu.holder is not None:
        marks = [] if gpu.present else ["GPU not seen"]
        marks += ["sick"] * (gpu.health == "sick") + ["quarantined"] * (gpu.quarantine in BY)
        return f"{gpu.holder} ({', '.join(marks)})" if marks else gpu.holder
    if gpu.quarantine in BY:
        return "quarantined"
    if not gpu.present:
        return "GPU not seen"
    return "busy" if gpu.occupants else "free"


def _trouble(gpu: Gpu) -> str:
    """Why it is not lent, or what it is sick of, and since when."""
    since = f" since {show.moment(gpu.since)}" if gpu.since else ""
    by = f", quarantined {BY[gpu.quarantine]}" if gpu.quarantine in BY else ""
    others = [one.message for one in gpu.ailments if one.message not in gpu.why]
    return "; ".join([gpu.why, *others]) + by + since
