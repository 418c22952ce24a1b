"""tools/report.py on a detector."""

from helpers import COCO


def test_report_shows_families_and_totals(tool, capsys):
    tool('report').main([COCO])
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if 'conv' in line]
    children = {words[0]: words[2] for words in lines if 'child' in words}
    assert children == {
        'backbone.layer3.2.conv2': 'backbone.layer3.3.conv2',
        'backbone.layer3.4.conv2': 'backbone.layer3.5.conv2',
        'backbone.layer4.1.conv2': 'backbone.layer4.2.conv2',
        'neck.fpn_convs.2.conv': 'neck.fpn_convs.1.conv',
        'neck.fpn_convs.3.conv': 'neck.fpn_convs.1.conv',
    }
    totals = ' '.join(out.split())
    assert '39,943,773 parameters, 44,396,336 if it were plain' in totals
    assert '4 families' in totals


def test_report_of_a_plain_model_says_so(tool, capsys):
    plain = ['model.backbone.conv_cfg=None', 'model.neck.conv_cfg=None']
    tool('report').main([COCO, '--cfg-options', *plain])
    totals = ' '.join(capsys.readouterr().out.split())
    assert '44,396,336 parameters, 44,396,336 if it were plain' in totals
    assert '0 families' in totals
