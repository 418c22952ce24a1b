"""tools/infer.py: images that cannot be drawn are named."""

import cv2
import numpy as np
import pytest
from helpers import DIGITS

from mmkdna.errors import BadInput


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['nothing.png'], 'nothing.png does not exist'),
        (['no_image.png'], 'no_image.png: expected an image'),
        (['a/0.png', 'b/0.png'], '2 images are named 0'),
    ],
)
def test_infer_names_images_that_it_cannot_draw(
    tool, tmp_path, monkeypatch, names, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'no_image.png').write_text('text')
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        cv2.imwrite(f'{folder}/0.png', np.zeros((4, 4, 3), np.uint8))
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises((BadInput, FileNotFoundError), match=message):
        tool('infer').main([DIGITS, 'epoch_1.pth', *names])
    assert not (tmp_path / 'outputs').exists()
