"""Files by mmdeploy, boxes and NMS in them: they find what PyTorch finds."""

import copy
import itertools
from pathlib import Path
from types import SimpleNamespace

import mmcv
import pytest
import torch
from helpers import ROOT
from mmengine.config import Config

from mmkdna.cli import build_runner
from mmkdna.datasets import prepare_data

pytestmark = pytest.mark.deploy

BATCHES = 1, 3
FREE = 0, 2, 3
SIZES = (160, 160), (192, 96), (128, 224)
BOXES = dict(
    score_threshold=0.05,
    confidence_threshold=0.005,
    iou_threshold=0.5,
    max_output_boxes_per_class=200,
    pre_top_k=5000,
    keep_top_k=100,
    background_label_id=-1,
)
"""What mmdeploy's own configs have."""


def deploy_config(library, task, outputs, free, **codebase):
    """As mmdeploy's ``*_onnxruntime_dynamic.py``, which its wheel lacks.

    ``free`` are the dynamic axes of the input.
    """
    names = {0: 'batch', 2: 'height', 3: 'width'}
    batch = {name: {0: 'batch'} for name in outputs}
    axes = {'input': {axis: names[axis] for axis in free}, **batch}
    if library == 'mmdet':
        for name in outputs:
            axes[name][1] = 'num_dets'
    onnx = dict(
        type='onnx',
        export_params=True,
        keep_initializers_as_inputs=False,
        opset_version=11,
        save_file='end2end.onnx',
        input_names=['input'],
        output_names=outputs,
        input_shape=None,
        dynamic_axes=axes,
        optimize=True,
    )
    return Config(
        dict(
            onnx_config=onnx,
            codebase_config=dict(type=library, task=task, **codebase),
            backend_config=dict(type='onnxruntime'),
        )
    )


def detector_config(*outputs, **boxes):
    return deploy_config(
        'mmdet',
        'ObjectDetection',
        ['dets', 'labels', *outputs],
        FREE,
        model_type='end2end',
        post_processing=dict(BOXES, export_postprocess_mask=False, **boxes),
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """One folder, so that the scenes are composed once."""
    return tmp_path_factory.mktemp('mmdeploy')


@pytest.fixture
def export(folder, monkeypatch):
    """Export the trained model of a config; both as mmdeploy runs them."""
    # Not above: only the environment of these tests has it.
    from mmdeploy.apis import build_task_processor, torch2onnx

    monkeypatch.chdir(folder)

    def export(name, deploy, size=SIZES[0], **options):
        cfg = Config.fromfile(ROOT / f'configs/digits/{name}.py')
        # The validation scenes do not depend on how many train.
        cfg.merge_from_dict({'digit_scenes.num_train': 10, **options})
        cfg.work_dir = str(folder / 'runs')
        prepare_data(cfg, ['test_dataloader'])
        weights = f'mmkdna://{name.rpartition("/")[-1]}_digits'
        (image,) = scenes(1, size)
        file = f'files/{Path(name).name}.onnx'
        torch2onnx(image, 'files', file, deploy, cfg, weights, 'cpu')
        processor = build_task_processor(cfg, deploy, 'cpu')
        return SimpleNamespace(
            cfg=cfg,
            model=processor.build_pytorch_model(weights),
            backend=processor.build_backend_model([file]),
        )

    return export


def scenes(number, size):
    """The first validation scenes, resized to this height and width."""
    paths = sorted(Path('data/digits/images/val').iterdir())[:number]
    return [mmcv.imresize(mmcv.imread(path), size[::-1]) for path in paths]


@torch.no_grad()
def both(exported, data):
    """What PyTorch and the file predict for a batch of a dataloader."""
    other = copy.deepcopy(data)
    return exported.model.test_step(data), exported.backend.test_step(other)


def batch_of(images, kind):
    """A batch as a dataloader gives it."""
    samples = [kind() for _ in images]
    for image, sample in zip(images, samples, strict=True):
        height, width = image.shape[:2]
        sample.set_metainfo(
            dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
        )
    inputs = [torch.from_numpy(i).permute(2, 0, 1) for i in images]
    return dict(inputs=inputs, data_samples=samples)


def unmatched(ours, theirs, least=0.0):
    """How many detections of two results have no equal in the other.

    Those count that score more than ``least``. Boxes may be half a pixel
    apart: of two proposals that score alike, another may have survived.
    """
    a, b = ours.pred_instances, theirs.pred_instances
    scores = (a.scores[:, None] - b.scores).abs() < 1e-4
    boxes = (a.bboxes[:, None] - b.bboxes).abs().amax(-1) < 0.5
    same = (a.labels[:, None] == b.labels) & scores & boxes
    if 'masks' in a:
        pixels = (a.masks[:, None] ^ b.masks).flatten(2).sum(-1)
        same &= pixels <= 0.02 * a.masks.flatten(1).sum(-1)[:, None]
    alone = (
        ~same.any(1) & (a.scores > least),
        ~same.any(0) & (b.scores > least),
    )
    return sum(int(side.sum()) for side in alone)


def assert_detects_the_same(exported, least=0.0):
    """At each batch and size, whatever the file was traced with."""
    from mmdet.structures import DetDataSample

    for batch, size in itertools.product(BATCHES, SIZES):
        results = both(exported, batch_of(scenes(batch, size), DetDataSample))
        for ours, theirs in zip(*results, strict=True):
            assert ours.pred_instances.scores.max() > least
            assert unmatched(ours, theirs, least) == 0


def scored(exported, least=0.0):
    """Detections, those unmatched, and the scores of PyTorch and the file."""
    loop = build_runner(exported.cfg).test_loop
    dataset = loop.dataloader.dataset
    evaluators = loop.evaluator, copy.deepcopy(loop.evaluator)
    for evaluator in evaluators:
        evaluator.dataset_meta = dataset.metainfo
    found = lost = 0
    for data in loop.dataloader:
        results = both(exported, data)
        for evaluator, result in zip(evaluators, results, strict=True):
            evaluator.process(result, data)
        for ours, theirs in zip(*results, strict=True):
            found += int((ours.pred_instances.scores > least).sum())
            lost += unmatched(ours, theirs, least)
    pytorch, file = (e.evaluate(len(dataset)) for e in evaluators)
    print(f'{exported.cfg.filename}: {found} above {least}, {lost} unmatched')
    print(f'PyTorch: {pytorch}\nits file: {file}')
    return found, lost, pytorch, file


def test_retinanet_scores_the_same(export):
    exported = export('kdna_retinanet_r18', detector_config())
    found, lost, pytorch, file = scored(exported, 0.1)
    assert lost < 0.01 * found
    kind = 'coco/bbox_mAP'
    assert file[kind] == pytest.approx(pytorch[kind], abs=1e-3)


def test_retinanet_detects_the_same_where_nothing_is_cut(export):
    """Of many boxes, mmdeploy keeps the best; mmdet, of boxes and classes."""
    options = {
        'model.test_cfg.nms_pre': 1000,
        'test_dataloader.dataset.indices': 40,
    }
    exported = export('kdna_retinanet_r18', detector_config(), **options)
    assert_detects_the_same(exported)
    found, lost, *_ = scored(exported)
    assert found > 1000
    assert lost == 0


def test_mask_rcnn_detects_the_same_where_pytorch_suppresses_jointly(export):
    """mmdeploy's RPN has one NMS for all levels, and drops scores by 0.05.

    Its head gives a proposal the box of its best class; what scores more
    than a half is of the best.
    """
    options = {
        'model.test_cfg.rpn.nms.class_agnostic': True,
        'test_dataloader.dataset.indices': 40,
    }
    deploy = detector_config('masks', score_threshold=0.0)
    exported = export('kdna_maskrcnn_r18', deploy, **options)
    assert_detects_the_same(exported, 0.5)
    found, lost, *_ = scored(exported, 0.5)
    assert found > 100
    assert lost == 0


def test_mask_rcnn_deviates_as_little_as_its_plain_twin(export):
    deploy, deviations = detector_config('masks'), []
    for name in ('kdna_maskrcnn_r18', 'plain/maskrcnn_r18'):
        *_, pytorch, file = scored(export(name, deploy))
        kinds = 'coco/bbox_mAP', 'coco/segm_mAP'
        deviations.append([abs(file[k] - pytorch[k]) for k in kinds])
    for ours, plain in zip(*deviations, strict=True):
        assert ours < plain + 0.005


def test_a_classifier_gives_the_same_scores(export):
    from mmpretrain.structures import DataSample

    deploy = deploy_config('mmpretrain', 'Classification', ['output'], FREE)
    exported = export('kdna_r18', deploy, (48, 48))
    for batch, size in itertools.product(BATCHES, SIZES):
        results = both(exported, batch_of(scenes(batch, size), DataSample))
        ours, theirs = ([s.pred_score for s in found] for found in results)
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


@pytest.mark.parametrize('size', [(192, 192), (192, 384), (384, 192)])
def test_a_segmentor_gives_the_same_logits(export, size):
    """A file for each size, since mmdeploy fixes the windows of pools."""
    from mmseg.structures import SegDataSample

    deploy = deploy_config(
        'mmseg', 'Segmentation', ['output'], free=(0,), with_argmax=False
    )
    exported = export('kdna_upernet_r18', deploy, size)
    for batch in BATCHES:
        data = batch_of(scenes(batch, size), SegDataSample)
        inputs = exported.model.data_preprocessor(data)['inputs']
        found = exported.backend.wrapper({'input': inputs})['output']
        samples = exported.model.test_step(data)
        expected = torch.stack([s.seg_logits.data for s in samples])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
