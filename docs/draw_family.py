"""Draw the picture of a family, `docs/family.png`; run by `make pictures`."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

OUT = Path(__file__).with_name('family.png')
GREEN, BLUE, ORANGE, GREY = '#2e8b57', '#2f6fb5', '#d9822b', '#666666'


def box(axes, x, y, w, h, text, colour, dashed=False, size=10):
    """A rounded box around text, its lower left corner at (x, y)."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            w,
            h,
            boxstyle='round,pad=0.02,rounding_size=0.12',
            fc=colour + '22',
            ec=colour,
            lw=1.6,
            ls='--' if dashed else '-',
        )
    )
    axes.text(x + w / 2, y + h / 2, text, ha='center', va='center', size=size)


def arrow(axes, start, end, colour=GREY, text='', offset=(0.0, 0.0)):
    axes.annotate(
        '',
        end,
        start,
        arrowprops=dict(arrowstyle='-|>', color=colour, lw=1.6),
    )
    if text:
        axes.text(
            (start[0] + end[0]) / 2 + offset[0],
            (start[1] + end[1]) / 2 + offset[1],
            text,
            color=colour,
            ha='center',
            va='center',
            size=9,
        )


def main() -> None:
    figure, axes = plt.subplots(figsize=(10, 5), dpi=120)
    axes.set(xlim=(0, 10), ylim=(0, 5))
    axes.set_axis_off()

    # The kernels, above.
    box(axes, 7.2, 3.7, 2.2, 0.9, 'parent kernel\n$W_p$', GREEN)
    box(
        axes,
        3.5,
        3.7,
        2.9,
        0.9,
        'static modulation\n$W_c = W_p\\,(1+s)\\,(1+f)$',
        ORANGE,
    )
    arrow(axes, (7.17, 4.15), (6.44, 4.15), GREEN)

    # The path of the data, below.
    box(axes, 0.9, 1.6, 2.0, 0.9, '$x \\cdot g(x)$', ORANGE)
    box(axes, 3.9, 1.6, 2.1, 0.9, 'child\nconv2d, kernel $W_c$', BLUE)
    box(axes, 7.2, 1.6, 2.2, 0.9, 'parent\nconv2d, kernel $W_p$', GREEN)
    box(
        axes,
        0.9,
        0.25,
        2.0,
        0.8,
        'dynamic routing\npool, squeeze, excite',
        ORANGE,
        size=9,
    )
    arrow(axes, (0.15, 2.05), (0.87, 2.05), text='$x$', offset=(-0.1, 0.22))
    arrow(axes, (2.94, 2.05), (3.87, 2.05))
    arrow(axes, (6.04, 2.05), (7.17, 2.05), text='norm, ...', offset=(0, 0.2))
    arrow(axes, (9.44, 2.05), (9.95, 2.05))
    arrow(axes, (0.45, 2.05), (0.87, 0.65), GREY)
    arrow(axes, (1.9, 1.08), (1.9, 1.57), ORANGE, '$g(x)$', (0.32, 0))
    arrow(axes, (4.95, 3.67), (4.95, 2.53), ORANGE, '$W_c$', (0.28, 0))
    arrow(axes, (8.3, 3.67), (8.3, 2.53), GREEN, '$W_p$', (0.28, 0))

    axes.text(
        0.1,
        4.15,
        'A family: one kernel,\na light adapter (orange)\nfor each child',
        size=11,
        va='center',
    )
    axes.text(
        6.0,
        0.6,
        'The child comes before its parent in depth and owns no kernel,\n'
        'only the adapter: $s$ ($k \\times k$), $f$ ($C_{out}$) and the '
        'routing.',
        size=9,
        color=GREY,
        ha='center',
        va='center',
        bbox=dict(fc='white', ec='none'),
    )
    figure.savefig(OUT, bbox_inches='tight', pad_inches=0.08)
    print(f'wrote {OUT}')


if __name__ == '__main__':
    main()
