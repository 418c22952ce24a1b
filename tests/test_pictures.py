"""Pictures of what a run learned."""

from matplotlib.image import imread

from mmkdna.measure.pictures import draw_curves


def test_a_resumed_run_is_one_curve_and_a_repeated_one_the_last(logged):
    first = [
        dict(loss=9.0, step=10),
        {'coco/bbox_mAP': 0.25, 'step': 1},
        dict(loss=5.0, step=20),
    ]
    logged('1', *first)
    later = [dict(loss=4.0, step=20), {'coco/bbox_mAP': 0.5, 'step': 2}]
    work_dir = logged('2', *later)
    scores = draw_curves(work_dir, work_dir / 'curves.png')
    assert scores == {1: {'box AP': 25}, 2: {'box AP': 50}}
    assert imread(work_dir / 'curves.png').std() > 0.01
