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
    return Figure(question, what, rounds, "×", goal_min, goal_max)


def show(value: float) -> str:
    """A number with three digits that count, in groups of three."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def print_table(console: Console, titles: dict[str, str], figures: list[Figure]) -> None:
    """All figures, under the titles of their questions."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("median", justify="right")
    table.add_column("unit", no_wrap=True)
    table.add_column("rounds", justify="right", no_wrap=True)
    table.add_column("goal", justify="right", no_wrap=True)
    table.add_column("met", no_wrap=True)
    for letter, title in titles.items():
        table.add_row(f"({letter}) {title}", style="bold")
        for figure in (f for f in figures if f.question == letter):
            table.add_row(f"    {figure.what}", *_cells(figure))
    console.print(table)


def _cells(figure: Figure) -> tuple[str, ...]:
    span = f"{show(min(figure.rounds))} – {show(max(figure.rounds))}"
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    return show(figure.value), figure.unit, span, figure.goal, met
