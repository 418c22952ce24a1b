"""Draw what tools/benchmark.py measured: the ratio of times over parameters.

Example: python experiments/draw_times.py times.json docs/times.png
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from scores import draw_points

from mmkdna import cli
from mmkdna.errors import BadInput
from mmkdna.measure.rows import Rows


def draw_times(panels: Mapping[str, Rows], path: str) -> None:
    """Draw the ratio of times over parameters, a panel for each table.

    Raises:
        BadInput: If a table has no times.
    """
    points = {
        title: {
            name: (row['parameters'], row['ratio'], *row['quartiles'])
            for name, row in rows.items()
            if 'ratio' in row
        }
        for title, rows in panels.items()
    }
    if missing := [title for title, found in points.items() if not found]:
        raise BadInput(
            f'{missing[0]} has no times to draw, expected what '
            'tools/benchmark.py --json wrote without --saved'
        )
    draw_points(points, 'time over the plain one (quartiles)', path, 'log')


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.plain_parser(__doc__)
    text = 'file of tools/benchmark.py --json'
    parser.add_argument('figures', type=Path, help=text)
    parser.add_argument('png', help='file to write')
    args = parser.parse_args(argv)
    draw_times(json.loads(args.figures.read_text()), args.png)


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
