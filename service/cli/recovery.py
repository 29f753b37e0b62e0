"""What `gpuledger restore --execute` tells: the plan before, and what became of it after."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from service.cli.maintain import say
from service.cli.refusals_found import refusals_data, refusals_lines
from service.cli.show import escaped, plural
from service.settings import Settings

if TYPE_CHECKING:
    from service.audit_ports import RefusalsVerified
    from service.domain.recovery_plan import RecoveryReport

_WORDS = {"here": "", "whole": "", "loss": " (with a loss)", "cannot": ""}


def recover(
    settings: Settings,
    folder: Path | None,
    *,
    execute: bool,
    accept_losses: bool,
    as_json: bool,
) -> None:
    """Tell the plan and, unless it is only to be told, do it; exit code 1 if not all is well."""
    import uvloop

    from service import bootstrap

    def tell(planned: "RecoveryReport") -> None:
        if not as_json:
            typer.echo(escaped("\n".join(plan_lines(planned))))

    restored: list[RefusalsVerified | None] = []
    report = uvloop.run(
        bootstrap.recover(
            settings,
            folder,
            tell,
            execute=execute,
            accept_losses=accept_losses,
            restored=restored.append,
        )
    )
    held_back = execute and not report.executed
    refusals = [line for found in restored for line in refusals_lines(found)]
    text = "\n".join([*refusals, *end_lines(report, held_back=held_back)])
    data = data_of(report, held_back=held_back)
    if restored:
        data["refusals"] = refusals_data(restored[0])
    say(as_json, data, text)
    if held_back or not report.is_well:
        raise typer.Exit(1)


def plan_lines(report: "RecoveryReport") -> list[str]:
    """What is to become of everything, told before anything is done."""
    lines = [f"node {report.node}, {plural(report.records, 'record')}"]
    for step in report.plan.steps:
        what = "volume" if step.kind == "volume" else "container"
        lines.append(f"{what} {step.name}: {step.what}{_WORDS[step.verdict]}")
        lines += [f"  lost: {loss}" for loss in step.losses]
        lines += [f"  {note}" for note in step.notes]
    if report.plan.in_the_way:
        lines += ["in the way:", *(f"  {one}" for one in report.plan.in_the_way)]
    return lines


def end_lines(report: "RecoveryReport", *, held_back: bool) -> list[str]:
    """Why nothing was done, or what came of it. `held_back`: it was to be done, and was not."""
    if report.plan.in_the_way:
        return ["nothing was done; remove what is in the way, or use a newer backup"]
    if held_back:
        return ["nothing was done; with --accept-losses it is, losing what stands above"]
    if not report.executed:
        return ["nothing was done: this is the plan"]
    lines = []
    for outcome in report.outcomes:
        how = "done" if outcome.succeeded else f"FAILED: {outcome.message}"
        lines.append(f"{outcome.verb} of {outcome.name}: {how}")
    return [*lines, f"start the service with --node {report.node}"]


def data_of(report: "RecoveryReport", *, held_back: bool) -> dict[str, Any]:
    """The same as JSON."""
    plan = report.plan
    return {
        "node": report.node,
        "records": report.records,
        "plan": [
            {
                "kind": step.kind,
                "name": step.name,
                "verdict": step.verdict,
                "what": step.what,
                "losses": list(step.losses),
                "notes": list(step.notes),
            }
            for step in plan.steps
        ],
        "inTheWay": list(plan.in_the_way),
        "executed": report.executed,
        "heldBack": held_back,
        "outcomes": [
            {
                "kind": outcome.kind,
                "name": outcome.name,
                "verb": outcome.verb,
                "succeeded": outcome.succeeded,
                "message": outcome.message,
            }
            for outcome in report.outcomes
        ],
    }
