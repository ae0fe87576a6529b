import cv2
import numpy as np
import pytest
import yaml

from m2i_ros.sources import SourceError, open_case, open_model, open_source, write_case


@pytest.fixture
def case(tmp_path, moving_box):
    return write_case(tmp_path / 'case', moving_box(mirrored=True))


def change(case, **entries):
    """Set keys of case.yaml; None removes one."""
    description = yaml.safe_load((case / 'case.yaml').read_text())
    description.update(entries)
    (case / 'case.yaml').write_text(yaml.safe_dump({k: v for k, v in description.items() if v is not None}))


def test_a_case_read_back_is_what_was_written(case, moving_box):
    source, truth = open_case(case), moving_box(mirrored=True)
    assert len(source) == len(truth) == 6
    assert source.camera == truth.camera and source.camera.mirrored
    assert source.frame_rate == truth.frame_rate
    assert np.array_equal(source.initial_pose, truth.initial_pose)
    assert source.model.hash == truth.model.hash
    for read, written in zip(source, truth, strict=True):
        assert np.array_equal(read.image, written.image)
        assert np.array_equal(read.mask, written.mask)
        assert np.array_equal(read.T_image_model, written.T_image_model), 'to the last bit'
        assert read.stamp == written.stamp
        assert read.camera == truth.camera


def test_folder_and_file_name_the_same_case(case):
    by_folder, by_file = open_case(case), open_case(case / 'case.yaml')
    assert [f.name for f in by_folder] == [f.name for f in by_file]
    assert next(iter(open_source('case', str(case)))).name == '000000'


def test_float_pictures_keep_their_values(tmp_path, moving_box):
    class Floats(moving_box):
        def __iter__(self):
            for frame in super().__iter__():
                object.__setattr__(frame, 'image', frame.image.astype(np.float32) / 7)
                yield frame

    case = write_case(tmp_path / 'floats', Floats())
    assert np.array_equal(next(iter(open_case(case))).image, next(iter(Floats())).image)


def test_a_case_is_not_written_over_another(case, moving_box):
    with pytest.raises(SourceError, match='holds a case already'):
        write_case(case, moving_box())


def test_truth_is_optional(case):
    change(case, masks=None, poses=None, initial_pose=None, camera=None, model=None)
    source = open_case(case)
    frame = next(iter(source))
    assert frame.mask is None and frame.T_image_model is None and frame.camera is None
    assert source.model is None and source.initial_pose is None
    with pytest.raises(SourceError, match='nothing to register'):
        open_model(str(case))


def test_a_frame_without_mask_or_pose_has_none(case):
    (case / 'masks' / '000002.png').unlink()
    lines = (case / 'poses.csv').read_text().splitlines()
    (case / 'poses.csv').write_text('\n'.join(lines[:3] + lines[5:]) + '\n')  # poses of frames 2 and 3 are gone
    frames = list(open_case(case))
    assert [f.mask is None for f in frames] == [False, False, True, False, False, False]
    assert [f.T_image_model is None for f in frames] == [False, False, True, True, False, False]


def test_a_video_is_a_sequence_of_frames(case, moving_box):
    video = cv2.VideoWriter(str(case / 'run.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10.0, (64, 64))
    for frame in moving_box():
        video.write(cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR))
    video.release()
    change(case, frames=None, video='run.mp4')
    source = open_case(case)
    frames = list(source)
    assert len(source) == len(frames) == 6
    assert frames[3].name == 'run_000003' and frames[3].stamp == pytest.approx(0.3)
    truth = list(moving_box())[3]
    assert np.array_equal(frames[3].mask, truth.mask)
    assert np.abs(frames[3].image.astype(int) - truth.image).mean() < 8, 'but for what compression takes'


@pytest.mark.parametrize(
    'entries, words',
    [
        ({'framez': 'a'}, 'framez: unknown key'),
        ({'frames': None}, 'exactly one is needed'),
        ({'video': 'a.mp4'}, 'exactly one is needed'),
        ({'frames': 'nothing/*.png'}, 'no file fits'),
        ({'frames': None, 'video': 'gone.mp4'}, 'gone.mp4: not found'),
        ({'masks': 'frames/nothing*'}, 'masks'),
        ({'frame_rate': 'fast'}, "'fast' is not a number"),
        ({'frame_rate': 0}, 'above 0'),
        ({'camera': {'width': 64}}, 'must have exactly'),
        ({'camera': dict(width=64, height=64, fx=0, fy=500, cx=31, cy=31)}, 'fx must not be 0'),
        ({'camera': dict(width=64, height=64, fx='wide', fy=500, cx=31, cy=31)}, 'wide'),
        ({'initial_pose': [1, 2, 3]}, '16 numbers'),
        ({'initial_pose': [2.0] * 16}, 'not a rigid motion'),
        ({'poses': 'gone.csv'}, 'gone.csv'),
    ],
)
def test_a_faulty_description_is_refused_by_file_and_key(case, entries, words):
    change(case, **entries)
    with pytest.raises(SourceError, match='case.yaml') as error:
        open_case(case)
    assert words in str(error.value)


def test_faulty_files_are_refused_by_name(case, tmp_path):
    with pytest.raises(SourceError, match='not found'):
        open_case(tmp_path / 'nowhere')
    (case / 'poses.csv').write_text('0.0,1,2\n')
    with pytest.raises(SourceError, match=r'poses.csv: line 1: 16 numbers'):
        open_case(case)
    (case / 'case.yaml').write_text('[1, 2')
    with pytest.raises(SourceError, match='cannot be read'):
        open_case(case)
    (case / 'case.yaml').write_text('hello')
    with pytest.raises(SourceError, match='must hold keys'):
        open_case(case)


def test_a_picture_of_another_size_than_the_camera_is_refused_by_name(case):
    cv2.imwrite(str(case / 'frames' / '000004.png'), np.zeros((32, 48), np.uint8))
    with pytest.raises(SourceError, match='000004: picture is 48x32, the camera'):
        list(open_case(case))


def test_a_mask_of_another_size_than_its_frame_is_refused_by_name(case):
    cv2.imwrite(str(case / 'masks' / '000004.png'), np.zeros((32, 48), np.uint8))
    with pytest.raises(SourceError, match='000004.png: mask is'):
        list(open_case(case))


@pytest.mark.parametrize(
    'kind, path, words', [('film', 'a', 'must be one of'), ('images', '', 'needs a path'), ('case', '', 'needs a path')]
)
def test_a_source_that_cannot_be_is_refused_with_the_right_ones(kind, path, words):
    with pytest.raises(SourceError, match=words):
        open_source(kind, path)
