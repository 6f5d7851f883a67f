import pytest
from PIL import Image

from pelk_mm.preflight.images import check_images
from pelk_mm.utils.errors import DataError


class Boxes:
    ann_file = 'a.json'

    def __init__(self, infos):
        self.infos = infos

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]


@pytest.fixture
def dataset(tmp_path):
    infos = []
    for i in range(4):
        path = tmp_path / f'{i}.jpg'
        Image.new('RGB', (6, 4)).save(path)
        infos.append({'img_path': str(path), 'width': 6, 'height': 4})
    return Boxes(infos)


def test_images_as_annotated_pass(dataset):
    check_images(dataset, 'train_dataloader')
    for info in dataset.infos:
        del info['width'], info['height']
    check_images(dataset, 'train_dataloader')
    check_images(object(), 'train_dataloader')


def test_missing_images(dataset, tmp_path):
    for i in (1, 2):
        (tmp_path / f'{i}.jpg').unlink()
    message = r'2 of 4 sampled images of train_dataloader that a.json lists are missing, the first is .*/1.jpg: do '
    with pytest.raises(DataError, match=message):
        check_images(dataset, 'train_dataloader')


def test_missing_images_of_another_back_end_pass(dataset, tmp_path):
    (tmp_path / '1.jpg').unlink()
    dataset.backend_args = {'backend': 'petrel'}
    check_images(dataset, 'train_dataloader')
    dataset.backend_args = {'backend': 'local'}
    with pytest.raises(DataError, match='1 of 4'):
        check_images(dataset, 'train_dataloader')


def test_images_of_another_size(dataset, tmp_path):
    Image.new('RGB', (4, 6)).save(tmp_path / '2.jpg')
    with pytest.raises(DataError, match=r'2.jpg \(val_dataloader\) is 4x6 pixels, but its annotations are for 6x4'):
        check_images(dataset, 'val_dataloader')


def test_an_image_stored_on_its_side_may_be_annotated_either_way(dataset, tmp_path):
    picture = Image.new('RGB', (4, 6))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / '2.jpg', exif=exif)
    check_images(dataset, 'train_dataloader')
    dataset.infos[2].update(width=4, height=6)
    check_images(dataset, 'train_dataloader')


def test_damaged_image(dataset, tmp_path):
    (tmp_path / '3.jpg').write_bytes(b'<html>404')
    with pytest.raises(DataError, match=r'3.jpg \(train_dataloader\) cannot be read: cannot identify'):
        check_images(dataset, 'train_dataloader')
    odd = tmp_path / '3.npy'  # a format of the user's own reader
    odd.write_bytes(b'?')
    dataset.infos[3]['img_path'] = str(odd)
    check_images(dataset, 'train_dataloader')


def test_a_large_set_is_sampled(dataset, monkeypatch):
    dataset.infos *= 5000
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, 'open', lambda path: opened.append(path) or real(path))
    check_images(dataset, 'train_dataloader', look_up=100, read=10)
    assert len(opened) == 10
