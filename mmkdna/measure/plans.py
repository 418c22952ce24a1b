"""The table and the picture of a plan, and the loss it is measured by."""

import copy
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from ..adoption.plan import Plan
from .pictures import save
from .show import new_table


def training_loss(model: Any, batch: Any) -> Tensor:
    """The loss of a model of the three libraries on a loader's batch."""
    # The preprocessor changes the samples.
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    loss: Tensor = model.parse_losses(model(**data, mode='loss'))[0]
    return loss


def plan_table(plan: Plan) -> Table:
    """Each step of a plan: what it joins, saves and costs."""
    before, after = plan.loss
    change = plan.parameters / plan.plain_parameters - 1
    table = new_table(
        'children',
        'parent',
        numbers=('saved', 'rise of the loss'),
        caption=f'{plan.parameters:,} parameters instead of '
        f'{plan.plain_parameters:,} ({change:+.1%}). The loss is '
        f'{before:.4f}, and {after:.4f} with all of these families before '
        'any training.',
    )
    for step in plan.steps:
        table.add_row(
            ', '.join(step.children),
            step.parent,
            f'{step.saved / plan.plain_parameters:.1%}',
            f'{step.rise:.4f}',
        )
    return table


def draw_plan(plan: Plan, path: Path) -> None:
    """Draw the rise of the loss against the parameters saved."""
    figure = Figure((7, 4.5), dpi=110, layout='constrained')
    axes = figure.subplots()
    total, (before, after) = plan.plain_parameters, plan.loss
    saved = [0.0, *(100 * step.saved / total for step in plan.steps)]
    rises = [0.0, *(step.rise for step in plan.steps)]
    axes.plot(saved, rises, 'o-', label='sum of the rises, each alone')
    axes.plot(saved[-1], after - before, 's', label='all of them, measured')
    axes.set(
        xlabel='parameters saved, percent of the model',
        ylabel='rise of the loss, before any training',
    )
    axes.legend()
    axes.grid(alpha=0.3)
    save(figure, path)
