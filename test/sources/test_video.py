import cv2
import numpy as np
import pytest

from m2i_ros.sources import SourceError, VideoFile, open_source, write_case


def pictures():
    return [np.full((48, 64), 30 + 30 * number, np.uint8) for number in range(6)]


def write(path, codec, rate=12.5):
    if codec == 'GIF':
        from PIL import Image

        first, *others = map(Image.fromarray, pictures())
        first.save(path, save_all=True, append_images=others, duration=1000 / rate, loop=0)
        return path
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (64, 48))
    for picture in pictures():
        video.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
    video.release()
    return path


@pytest.mark.parametrize('name, codec', [('a.mp4', 'mp4v'), ('a.avi', 'MJPG'), ('a.avi', 'FFV1'), ('a.gif', 'GIF')])
def test_the_frames_of_a_video_come_at_its_rate(tmp_path, name, codec):
    source = open_source('video', str(write(tmp_path / name, codec)))
    frames = list(source)
    assert len(source) == len(frames) == 6 and source.frame_rate == 12.5 and source.skipped == []
    assert [frame.name for frame in frames][::5] == ['a_000000', 'a_000005']
    assert [frame.stamp for frame in frames] == pytest.approx(0.08 * np.arange(6))
    for frame, picture in zip(frames, pictures()):
        assert frame.image.shape == (48, 64) and frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - picture).max() <= 4, 'but for what compression takes'


def test_a_rate_that_is_given_goes_before_the_files(tmp_path):
    source = VideoFile(write(tmp_path / 'a.avi', 'MJPG'), frame_rate=25.0)
    assert source.frame_rate == 25.0 and [frame.stamp for frame in source][1] == 0.04


def test_what_is_no_video_is_refused_by_name(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'hello')
    with pytest.raises(SourceError, match='a.mp4: is no video'):
        VideoFile(tmp_path / 'a.mp4')
    with pytest.raises(SourceError, match='nowhere.mp4: not found'):
        open_source('video', str(tmp_path / 'nowhere.mp4'))


def test_a_video_that_is_cut_off_is_played_up_to_the_cut(tmp_path, caplog):
    path = write(tmp_path / 'a.avi', 'MJPG')
    data = path.read_bytes()
    third = [place for place in range(len(data)) if data.startswith(b'00dc', place)][4]
    path.write_bytes(data[: third + 20])
    source = VideoFile(path)
    assert len(source) == 6 and len(list(source)) == 3
    assert source.skipped == [f'{path} frame {number}' for number in (4, 5, 6)] and 'is cut off: 3 of 6' in caplog.text


def test_a_case_may_name_a_video_for_its_frames(tmp_path, moving_box):
    case = write_case(tmp_path / 'case', moving_box(count=6))
    write(case / 'a.avi', 'MJPG')
    text = (case / 'case.yaml').read_text()
    (case / 'case.yaml').write_text(text.replace('frames/*.png', 'a.avi').replace('masks', 'no').replace('camera', 'x'))
    with pytest.raises(SourceError, match='unknown key'):
        open_source('case', str(case))
    lines = [line for line in text.splitlines() if not line.startswith(('masks', 'poses', 'camera', '  '))]
    (case / 'case.yaml').write_text('\n'.join(lines).replace('frames/*.png', 'a.avi'))
    frames = list(open_source('case', str(case)))
    assert len(frames) == 6 and frames[1].stamp == pytest.approx(0.1), 'case.yaml states 10 frames a second'
