"""What the pictures of the measurements have in common."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..files import written_beside


def plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis, close enough for one that is short."""
    axis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axis.set_minor_formatter(NullFormatter())


def annotate(axes: Axes, text: str, x: float, y: float, left: bool) -> None:
    """A name beside a point, on its left or right."""
    axes.annotate(
        text,
        (x, y),
        xytext=(-8 if left else 8, 5),
        ha='right' if left else 'left',
        textcoords='offset points',
        fontsize=8,
    )


def save(figure: Figure, path: str | Path) -> None:
    """Write a PNG beside its place and move it there."""
    with written_beside(path) as beside:
        figure.savefig(beside, format='png', dpi=110)
