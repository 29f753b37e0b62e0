"""Figures, one for each thing measured: the median of the rounds, their range, and the goal."""

from statistics import median

from msgspec import Struct
from rich.console import Console
from rich.table import Table


class Figure(Struct, frozen=True):
    """One line of the table. `rounds` has a value for each round, in their order."""

    question: str
    """The letter of the question that it answers."""
    what: str
    rounds: list[float]
    unit: str
    goal_min: float | None = None
    goal_max: float | None = None

    @property
    def value(self) -> float:
        """The median of the rounds: one round that was disturbed does not move it."""
        return median(self.rounds)

    @property
    def goal(self) -> str:
        """The goal for people; "" where there is none."""
        if self.goal_min is not None:
            return f"≥ {show(self.goal_min)}"
        return "" if self.goal_max is None else f"< {show(self.goal_max)}"

    @property
    def met(self) -> bool | None:
        """Is the goal met by the median? None where there is no goal."""
        if self.goal_min is not None:
            return self.value >= self.goal_min
        return None if self.goal_max is None else self.value < self.goal_max


def ratio(
    question: str,
    what: str,
    over: Figure,
    under: Figure,
    *,
    goal_min: float | None = None,
    goal_max: float | None = None,
) -> Figure:
    """One figure over another, round by round: what slows a whole round leaves it alone."""
    rounds = [a / b for a, b in zip(over.rounds, under.rounds, strict=True)]
    return Figure(question, what, rounds, "times", goal_min, goal_max)


def show(value: float) -> str:
    """A number with three digits that count, in groups of three."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def print_question(console: Console, letter: str, title: str, figures: list[Figure]) -> None:
    """The figures of one question, under its title; columns as wide as under the others."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", width=40)
    table.add_column("median", justify="right", width=8)
    table.add_column("unit", width=9)
    table.add_column("rounds", justify="right", width=18)
    table.add_column("goal", justify="right", width=8)
    table.add_column("met", width=3)
    for figure in figures:
        table.add_row(figure.what, *_cells(figure))
    console.print(f"[bold]({letter}) {title}[/bold]")
    console.print(table)
    console.print()


def _cells(figure: Figure) -> tuple[str, ...]:
    span = f"{show(min(figure.rounds))} to {show(max(figure.rounds))}"
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    return show(figure.value), figure.unit, span, figure.goal, met
