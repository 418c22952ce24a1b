"""Draw the gates of a model's families."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ..families import Family


def draw_gates(
    families: Sequence[Family], gates: Mapping[str, Tensor], step: int
) -> np.ndarray:
    """A picture with a row for each child, and a dot for each channel.

    Args:
        families: The families of a model.
        gates: The gates of children by name, ``(N, C_in)``; may lack some.
        step: The iteration that the title names.

    Returns:
        RGB, ``(height, width, 3)``, uint8.
    """
    rows = [
        (number, family.parent.name, name, child.adapter.routing)
        for number, family in enumerate(families)
        for name, child in family.children
        if name in gates
    ]
    figure = Figure(figsize=(9, 1.3 + 0.45 * len(rows)), dpi=100)
    axes = figure.subplots()
    random = np.random.default_rng(0)
    most = 1
    for row, (number, _, name, routing) in enumerate(rows):
        values = gates[name].mean(0).cpu().numpy()
        # A little up or down, so that dots do not hide each other.
        heights = row + random.uniform(-0.3, 0.3, len(values))
        axes.scatter(values, heights, 9, f'C{number % 10}', alpha=0.6, lw=0)
        axes.plot([np.median(values)] * 2, [row - 0.4, row + 0.4], 'k', lw=1.5)
        most = max(most, 1 + routing.identity_gate)
    axes.axvline(1, color='gray', ls=':', zorder=0)
    labels = [f'{name}\n(parent: {parent})' for _, parent, name, _ in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    axes.set(
        xlim=(-0.02, most + 0.02),
        ylim=(len(rows) - 0.5, -0.5),
        xlabel='gate: 0 is closed, 1 leaves the channel as it is',
    )
    figure.suptitle(
        f'Gates of the children at iteration {step}\na dot is a channel, its '
        'mean over the images of the batch; a black line is the median',
        fontsize=9,
    )
    figure.tight_layout()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
