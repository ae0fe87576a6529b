import cv2
import numpy as np
import pytest

from m2i_ros.sources import ImageFolder, SourceError
from m2i_ros.sources.images import read_grey


def write(path, image):
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def picture(value, shape=(40, 50)):
    return np.full(shape, value, np.uint8)


def test_pictures_come_in_natural_order_at_the_frame_rate(tmp_path):
    for number in (10, 2, 1):
        write(tmp_path / f'frame_{number}.png', picture(number))
    frames = list(ImageFolder(tmp_path, frame_rate=4.0))
    assert [f.name for f in frames] == ['frame_1', 'frame_2', 'frame_10']
    assert [f.image[0, 0] for f in frames] == [1, 2, 10]
    assert [f.stamp for f in frames] == [0.0, 0.25, 0.5]


def test_every_picture_is_a_frame_whatever_its_size(tmp_path):
    shapes = [(40, 50), (64, 64), (300, 33)]
    for number, shape in enumerate(shapes):
        write(tmp_path / f'{number}.png', picture(1, shape))
    assert [f.image.shape for f in ImageFolder(tmp_path)] == shapes


def test_a_damaged_file_is_skipped_with_a_warning_that_names_it(tmp_path, caplog):
    write(tmp_path / '1.png', picture(1))
    (tmp_path / '2.png').write_bytes(b'no picture')
    (tmp_path / '3.jpg').write_bytes(b'')
    write(tmp_path / '4.bmp', picture(4))
    source = ImageFolder(tmp_path)
    assert [f.name for f in source] == ['1', '4']
    assert [p.name for p in source.skipped] == ['2.png', '3.jpg']
    assert '2.png' in caplog.text and '2 so far' in caplog.text
    assert [f.name for f in source] == ['1', '4'] and len(source.skipped) == 2, 'a second round counts anew'


def test_files_that_are_no_pictures_by_name_are_left_alone(tmp_path):
    write(tmp_path / 'a.png', picture(1))
    (tmp_path / 'notes.txt').write_text('hello')
    source = ImageFolder(tmp_path)
    assert len(source) == 1 and [f.name for f in source] == ['a'] and source.skipped == []


@pytest.mark.parametrize('make', [lambda p: p / 'nowhere', lambda p: p])
def test_a_folder_without_pictures_is_refused_by_name(tmp_path, make):
    with pytest.raises(SourceError, match=str(make(tmp_path))):
        ImageFolder(make(tmp_path))


def test_depth_survives_and_colour_becomes_grey(tmp_path):
    ramp = np.arange(2000, dtype=np.uint16).reshape(40, 50) * 30
    write(tmp_path / 'deep.png', ramp)
    assert np.array_equal(read_grey(tmp_path / 'deep.png'), ramp)
    floats = (ramp / 7).astype(np.float32)
    write(tmp_path / 'float.tiff', floats)
    assert np.array_equal(read_grey(tmp_path / 'float.tiff'), floats)
    colour = np.zeros((40, 50, 3), np.uint8)
    colour[..., 1] = 100  # green: 0.587 of the grey by ITU-R BT.601
    write(tmp_path / 'colour.png', colour)
    grey = read_grey(tmp_path / 'colour.png')
    assert grey.shape == (40, 50) and abs(int(grey[0, 0]) - 58.7) < 1
    write(tmp_path / 'alpha.png', np.dstack([colour, picture(255)]))
    assert np.array_equal(read_grey(tmp_path / 'alpha.png'), grey)


def test_a_name_beyond_ascii_is_read(tmp_path):
    write(tmp_path / 'Gefäß_1.png', picture(3))
    assert next(iter(ImageFolder(tmp_path))).name == 'Gefäß_1'
