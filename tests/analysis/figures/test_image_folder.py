import numpy as np
import pytest
import torch
from PIL import Image

from pelk_mm.analysis.figures.image_folder import list_images, read_image


def test_images_are_evenly_spaced_through_all_folders(tmp_path):
    for name in ('a/0.png', 'a/1.JPG', 'b/2.png', 'b/deep/3.png', 'c/4.png', 'notes.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.stem for path in list_images(tmp_path, 3)] == ['0', '2', '4']
    assert [path.stem for path in list_images(tmp_path, 99)] == ['0', '1', '2', '3', '4']


def test_pixels_are_resized_and_normalised_in_the_order_asked_for(tmp_path):
    Image.fromarray(np.full((20, 40, 3), (10, 20, 30), np.uint8)).save(tmp_path / 'a.png')
    image = read_image(tmp_path / 'a.png', 32, (0, 10, 20), (1, 2, 4))
    assert image.shape == (1, 3, 32, 32)
    assert image.dtype == torch.float32
    assert image[0, :, 5, 5].tolist() == [10.0, 5.0, 2.5]
    assert read_image(tmp_path / 'a.png', 32, (0, 10, 20), (1, 2, 4), rgb=False)[0, :, 5, 5].tolist() == [30, 5, -2.5]
    Image.fromarray(np.full((20, 40), 7, np.uint8)).save(tmp_path / 'grey.png')
    assert read_image(tmp_path / 'grey.png', 32, (0,) * 3, (1,) * 3).unique().tolist() == [7]


def test_bad_folders_and_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='image folder .*nowhere does not exist'):
        list_images(tmp_path / 'nowhere', 3)
    with pytest.raises(ValueError, match=f'image folder {tmp_path} holds no image'):
        list_images(tmp_path, 3)
    with pytest.raises(ValueError, match='number of images must be at least 1, but got 0'):
        list_images(tmp_path, 0)
    (tmp_path / 'broken.png').write_bytes(b'not a picture')
    with pytest.raises(ValueError, match='image .*broken.png cannot be read'):
        read_image(tmp_path / 'broken.png', 32, (0,) * 3, (1,) * 3)
    good = tmp_path / 'good.png'
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(good)
    good.write_bytes(good.read_bytes()[:60])
    with pytest.raises(ValueError, match='image .*good.png cannot be read'):
        read_image(good, 32, (0,) * 3, (1,) * 3)
