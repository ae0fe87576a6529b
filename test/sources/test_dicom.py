"""DICOM runs as frames: pixels, grey values, times, files; and what is wrong with some."""

import struct
import tracemalloc

import numpy as np
import pydicom
import pytest
import xa_files
from pydicom.encaps import encapsulate, encapsulate_extended
from xa_files import BITS, DISC, SYNTAXES, write_dicomdir, write_xa, xa_dataset

from m2i_ros.geometry import CArm
from m2i_ros.sources import SourceError, open_source, write_case
from m2i_ros.sources.dicom import PAUSE, DicomSource
from m2i_ros.sources.dicom_header import FUNCTIONAL_GROUPS, TAGS


def ramp(count=3, shape=(48, 64), bits=8):
    """Frames with every grey value, another a frame: (N, H, W)."""
    top = 2**bits - 1
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    base = (rows * shape[1] + columns) / (shape[0] * shape[1] - 1)
    frames = np.stack([np.roll(base, 5 * index, axis=1) for index in range(count)])
    return np.round(frames * top).astype(np.uint8 if bits <= 8 else np.uint16)


def images(source):
    return np.stack([frame.image for frame in source])


def change(path, **tags):
    """Set tags of a file; None removes one."""
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.save_as(path)
    return path


# Pixels


@pytest.mark.parametrize('bits', [8, 10, 12, 16])
@pytest.mark.parametrize('syntax', SYNTAXES)
def test_every_transfer_syntax_gives_the_same_pictures(tmp_path, syntax, bits):
    if bits not in BITS.get(syntax, (bits,)):
        pytest.skip('lossy JPEG has 8 bits, or extended 12')
    frames = ramp(bits=bits)
    found = images(open_source('dicom', write_xa(tmp_path / 'run.dcm', frames, syntax, bits)))
    assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
    full = 255 if bits == 8 else 65535
    error = np.abs(found * ((2**bits - 1) / full) - frames)
    assert error.max() <= SYNTAXES[syntax] + 0.05, 'what rounding to full scale takes'


def test_a_fragmented_stream_is_put_together_with_and_without_a_table(tmp_path):
    frames = ramp(4)
    path = write_xa(tmp_path / 'run.dcm', frames, 'JPEGLSLossless')
    ds = pydicom.dcmread(path)
    streams = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=4))
    for has_bot in (True, False):
        ds.PixelData = encapsulate(streams, fragments_per_frame=3, has_bot=has_bot)
        ds.save_as(path)
        assert np.array_equal(images(DicomSource(path)), frames)
    ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(streams)
    ds.save_as(path)
    assert np.array_equal(images(DicomSource(path)), frames)


def test_overlays_in_unused_bits_are_ignored(tmp_path):
    frames = ramp(bits=12)
    drawn = frames.copy()
    drawn[:, 10:20, 10:20] |= 0x8000
    path = write_xa(tmp_path / 'run.dcm', drawn, bits=12)
    plain = write_xa(tmp_path / 'plain.dcm', frames, bits=12)
    assert np.array_equal(images(DicomSource(path)), images(DicomSource(plain)))


def test_signed_pixels_keep_their_order(tmp_path):
    frames = ramp(bits=12).astype(np.int16) - 2048
    path = write_xa(tmp_path / 'run.dcm', frames.view(np.uint16), bits=12, PixelRepresentation=1)
    plain = write_xa(tmp_path / 'plain.dcm', ramp(bits=12), bits=12)
    assert np.array_equal(images(DicomSource(path)), images(DicomSource(plain)))


# Grey values


def test_a_window_is_applied_as_the_standard_says(tmp_path):
    """PS3.3 C.11.2.1.2.1, worked by hand for centre 2048, width 1024: black up to 1536, white above 2559."""
    path = write_xa(tmp_path / 'run.dcm', ramp(bits=12), bits=12, WindowCenter=2048, WindowWidth=1024)
    found, stored = images(DicomSource(path)), ramp(bits=12)
    assert (found[stored <= 1536] == 0).all() and (found[stored > 2559] == 65535).all()
    middle = (stored > 1536) & (stored <= 2559)
    expected = ((stored[middle] - 2047.5) / 1023 + 0.5) * 65535
    assert np.abs(found[middle] - expected).max() < 17, 'one step of the stored values'


def test_a_window_that_is_given_goes_before_the_files(tmp_path):
    frames = ramp(bits=12)
    path = write_xa(tmp_path / 'run.dcm', frames, bits=12, WindowCenter=10, WindowWidth=5)
    found = images(DicomSource(path, window='2000.5 1001'))
    assert set(found[frames <= 1500]) == {0} and set(found[frames >= 2501]) == {65535}
    assert found[frames == 2000].astype(float) == pytest.approx(65535 / 2, abs=70)


def test_a_table_goes_before_a_window(tmp_path):
    table = pydicom.Dataset()
    table.add_new('LUTDescriptor', 'US', [256, 0, 8])
    table.add_new('LUTData', 'OW', np.minimum(2 * np.arange(256), 255).astype('<u2').tobytes())
    path = write_xa(tmp_path / 'run.dcm', ramp(), VOILUTSequence=[table], WindowCenter=10, WindowWidth=5)
    assert np.array_equal(images(DicomSource(path)), np.minimum(2 * ramp().astype(int), 255))


@pytest.mark.parametrize('tags', [{'WindowCenter': 10, 'WindowWidth': 0}, {'WindowCenter': 1e6, 'WindowWidth': 10}])
def test_a_window_that_shows_nothing_is_left_out_and_said(tmp_path, caplog, tags):
    assert np.array_equal(images(DicomSource(write_xa(tmp_path / 'run.dcm', ramp(), **tags))), ramp())
    assert 'no window: the one that is there cannot be used' in caplog.text


@pytest.mark.parametrize(
    'tags, inverted',
    [
        ({}, False),
        ({'PhotometricInterpretation': 'MONOCHROME1'}, True),
        ({'PixelIntensityRelationshipSign': 1}, False),
        ({'PixelIntensityRelationshipSign': -1}, True),
        ({'PixelIntensityRelationshipSign': -1, 'PhotometricInterpretation': 'MONOCHROME1'}, True),
        ({'PixelIntensityRelationshipSign': 1, 'PhotometricInterpretation': 'MONOCHROME1'}, False),
    ],
)
def test_contrast_is_dark(tmp_path, tags, inverted):
    path = write_xa(tmp_path / 'run.dcm', ramp(), **tags)
    assert np.array_equal(images(DicomSource(path)), 255 - ramp() if inverted else ramp())
    assert np.array_equal(images(DicomSource(path, invert='yes')), 255 - ramp())
    assert np.array_equal(images(DicomSource(path, invert='no')), ramp())


def test_linear_pictures_get_the_curve_of_a_display_and_others_do_not(tmp_path, caplog):
    """A vessel that takes away a quarter of the rays is as much darker behind bone as behind lung."""
    frames = ramp(1, bits=12)
    frames[0, 0, :4] = [3000, 2250, 300, 225]
    (found,) = images(DicomSource(write_xa(tmp_path / 'a.dcm', frames, bits=12, PixelIntensityRelationship='LIN')))
    steps = found[0, :4].astype(float)
    assert steps[0] - steps[1] == pytest.approx(steps[2] - steps[3], rel=0.01)
    assert 'a logarithmic curve' in caplog.text
    linear = write_xa(tmp_path / 'a.dcm', frames, bits=12, PixelIntensityRelationship='LIN')
    logarithmic = write_xa(tmp_path / 'b.dcm', frames, bits=12, PixelIntensityRelationship='DISP')
    assert np.array_equal(images(DicomSource(logarithmic, curve='log'))[0], found), 'or what one is told'
    assert np.abs(images(DicomSource(linear, curve='linear'))[0] * (4095 / 65535) - frames[0]).max() < 0.05
    for kind in ('LOG', 'DISP'):
        (found,) = images(DicomSource(write_xa(tmp_path / 'b.dcm', frames, bits=12, PixelIntensityRelationship=kind)))
        assert np.abs(found * (4095 / 65535) - frames[0]).max() < 0.05


# Times


@pytest.mark.parametrize(
    'tags, stamps',
    [
        ({'FrameTime': 80.0}, [0, 0.08, 0.16]),
        ({'FrameTime': None, 'FrameTimeVector': [0, 100.0, 50.0]}, [0, 0.1, 0.15]),
        ({'FrameTime': 40.0, 'FrameTimeVector': [0, 100.0, 50.0]}, [0, 0.1, 0.15]),
        ({'FrameTime': 40.0, 'FrameTimeVector': [0, 100.0]}, [0, 0.04, 0.08]),
        ({'FrameTime': None, 'CineRate': 25}, [0, 0.04, 0.08]),
        ({'FrameTime': 0.0, 'RecommendedDisplayFrameRate': 10}, [0, 0.1, 0.2]),
        ({'FrameTime': None}, [0, 1 / 15, 2 / 15]),
        ({'FrameTime': 1e9}, [0, 1 / 15, 2 / 15]),
    ],
)
def test_frames_come_at_the_times_of_the_file(tmp_path, caplog, tags, stamps):
    source = DicomSource(write_xa(tmp_path / 'run.dcm', ramp(), **tags))
    assert [frame.stamp for frame in source] == pytest.approx(stamps)
    assert source.frame_rate == pytest.approx(2 / stamps[-1])
    assert ('15 frames a second' in caplog.text) == (stamps[1] == 1 / 15)
    faster = DicomSource(write_xa(tmp_path / 'run.dcm', ramp(), **tags), frame_rate=50.0)
    assert [frame.stamp for frame in faster] == pytest.approx([0, 0.02, 0.04])


# Files


def test_a_folder_plays_run_after_run_in_the_order_of_the_series(tmp_path):
    (tmp_path / 'deep').mkdir()
    write_xa(tmp_path / 'z.dcm', ramp(2), SeriesNumber=1)
    write_xa(tmp_path / 'deep' / 'IM10', ramp(1, (40, 40)), SeriesNumber=2, InstanceNumber=10)
    write_xa(tmp_path / 'deep' / 'IM9', ramp(1, (50, 40)), SeriesNumber=2, InstanceNumber=9)
    (tmp_path / 'notes.txt').write_text('hello')
    source = DicomSource(tmp_path, start=lambda c_arm: c_arm.T_image_isocentre)
    frames = list(source)
    assert [f.name for f in frames] == ['z_000000', 'z_000001', 'deep_IM9_000000', 'deep_IM10_000000']
    assert len(source) == 4 and source.skipped == []
    starts = [f.initial_pose is not None for f in frames]
    assert starts == [True, False, True, True], 'each run begins from where its own angles put the model'
    step = 0.08 + PAUSE
    assert [f.stamp for f in frames] == pytest.approx([0, 0.08, 0.08 + step, 0.08 + 2 * step])
    assert [f.image.shape for f in frames] == [(48, 64), (48, 64), (50, 40), (40, 40)], 'sizes may differ'
    assert [(f.camera.height, f.camera.width) for f in frames] == [f.image.shape for f in frames]


def test_a_second_plane_is_paired_by_time_and_stands_where_its_angles_say(tmp_path):
    times = {'FrameTime': None, 'FrameTimeVector': [0.0, 80.0, 80.0, 80.0, 80.0]}
    first = write_xa(tmp_path / 'a.dcm', ramp(5), **times, PositionerPrimaryAngle=-30.0)
    # Its frames come a little later one by one, so that the last is nearer to the one before.
    later = [0.0, 90.0, 90.0, 90.0, 500.0]
    lateral = {'PositionerPrimaryAngle': 60.0, 'DistanceSourceToDetector': 1200.0}
    second = write_xa(tmp_path / 'b.dcm', 255 - ramp(5), FrameTime=None, FrameTimeVector=later, **lateral)
    source = open_source('dicom', str(first), second=str(second), angles_deg='-30 -20')
    frames = list(source)
    assert source.second and len(frames) == len(source) == 5
    assert [frame.second.stamp for frame in frames] == pytest.approx([0.0, 0.09, 0.18, 0.27, 0.27])
    for frame, index in zip(frames, (0, 1, 2, 3, 3), strict=True):
        assert np.array_equal(frame.second.image, 255 - ramp(5)[index])
        assert frame.second.camera.fy == pytest.approx(1200 / 0.4) and frame.camera.fy == pytest.approx(1100 / 0.4)
        both = [CArm(np.radians(angle), np.radians(-20.0)).T_image_isocentre for angle in (-30, 60)]
        np.testing.assert_allclose(frame.second.T_second_image, both[1] @ np.linalg.inv(both[0]), atol=1e-9)


def test_what_a_second_plane_lacks_is_not_known_and_the_first_plays(tmp_path):
    first = write_xa(tmp_path / 'a.dcm', ramp(3))
    bare = {'PositionerPrimaryAngle': None, 'DistanceSourceToDetector': None}
    short = write_xa(tmp_path / 'b.dcm', ramp(2), **bare)
    frames = list(DicomSource(first, second=short))
    assert len(frames) == 3 and frames[2].second.stamp == frames[1].second.stamp
    assert all(frame.second.T_second_image is None and frame.second.camera is None for frame in frames)
    with pytest.raises(SourceError, match='gone.dcm: not found'):
        DicomSource(first, second=tmp_path / 'gone.dcm')


def test_a_dicomdir_names_its_files(tmp_path):
    files = [write_xa(tmp_path / f'{n}.dcm', ramp(2) + n, SeriesNumber=n, **DISC) for n in (2, 1)]
    directory = write_dicomdir(tmp_path / 'disc', files)
    source = DicomSource(directory)
    assert [frame.image[0, 0] for frame in source][::2] == [ramp()[0, 0, 0] + 1, ramp()[0, 0, 0] + 2]
    run = next(path for path in (tmp_path / 'disc').rglob('*') if path.is_file() and path.name != 'DICOMDIR')
    run.unlink()
    source = DicomSource(directory)
    assert len(source.runs) == 1 and source.skipped == [run], 'the missing file is named, the rest goes on'
    assert len(DicomSource(tmp_path / 'disc')) == 2, 'the folder of a disc needs no DICOMDIR'


def test_the_fixtures_that_the_script_writes_are_small_and_play(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (15, 64, 64), np.uint8)  # hardly gets smaller
    monkeypatch.setattr(xa_files, 'phantom_frames', lambda size: (noise, None))
    xa_files.main(tmp_path / 'fixtures')
    files = [file for file in (tmp_path / 'fixtures').rglob('*') if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 2e6
    for path, runs in (
        (tmp_path / 'fixtures', 2 * len(SYNTAXES) + 1),
        (tmp_path / 'fixtures/disc/DICOMDIR', len(SYNTAXES)),
    ):
        source = DicomSource(path)
        assert len(source.runs) == runs and len(list(source)) == 15 * runs and source.skipped == []


def test_a_case_may_name_a_dicom_run_for_its_frames(tmp_path, moving_box):
    case = write_case(tmp_path / 'case', moving_box(count=3))
    write_xa(case / 'run.dcm', ramp(3, (64, 64)))
    text = (case / 'case.yaml').read_text().replace('frames/*.png', 'run.dcm')
    (case / 'case.yaml').write_text(text)
    source, truth = open_source('case', str(case)), list(moving_box(count=3))
    frames = list(source)
    assert np.array_equal(images(frames), ramp(3, (64, 64))) and len(source) == 3
    assert frames[2].camera == source.camera == truth[2].camera, 'what case.yaml says goes before the file'
    assert np.array_equal(frames[2].mask, truth[2].mask) and np.array_equal(
        frames[2].T_image_model, truth[2].T_image_model
    )
    lines = [line for line in text.splitlines() if not line.startswith(('frame_rate', 'camera', '  '))]
    (case / 'case.yaml').write_text('\n'.join(lines))
    source = open_source('case', str(case))
    assert source.frame_rate == 12.5 and source.camera == DicomSource(case / 'run.dcm').camera
    assert [frame.stamp for frame in source] == pytest.approx([0, 0.08, 0.16])


# What is wrong with some


@pytest.mark.parametrize(
    'tags, words',
    [
        ({'Modality': 'CT'}, r'run.dcm: Modality \(0008,0060\) is CT, not XA or RF: give an X-ray run'),
        ({'Modality': None}, r'Modality \(0008,0060\) is missing'),
        ({'Rows': None}, r'Rows \(0028,0010\) is missing'),
        ({'Columns': 0}, r'Columns \(0028,0011\) is 0: it must be from 1'),
        ({'SamplesPerPixel': 3}, r'Samples per Pixel \(0028,0002\) is 3'),
        ({'BitsAllocated': 12}, r'Bits Allocated \(0028,0100\) is 12'),
        ({'BitsAllocated': 32}, r'Bits Allocated \(0028,0100\) is 32'),
        ({'BitsStored': 9}, r'Bits Stored \(0028,0101\) is 9'),
        ({'HighBit': 5}, r'High Bit \(0028,0102\) is 5'),
        ({'NumberOfFrames': 10**9}, r'Number of Frames \(0028,0008\) is 1e\+09'),
        ({'PixelData': None}, r'Pixel Data \(7FE0,0010\) is missing'),
        ({'PixelData': b'ab'}, 'holds no whole picture'),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name_and_tag(tmp_path, tags, words):
    path = change(write_xa(tmp_path / 'run.dcm', ramp()), **tags)
    with pytest.raises(SourceError, match=words) as error:
        DicomSource(path)
    assert str(path) in str(error.value)


def test_a_transfer_syntax_that_nothing_decodes_is_named(tmp_path):
    ds = xa_dataset(ramp())
    ds.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    ds.PixelData = encapsulate([b'abcd'])
    ds.save_as(tmp_path / 'run.dcm', enforce_file_format=True)
    with pytest.raises(SourceError, match='packed as MPEG2 .* cannot be read: convert'):
        DicomSource(tmp_path / 'run.dcm')


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda p: p / 'nowhere', 'nowhere: not found: give a DICOM file'),
        (lambda p: p, 'holds no DICOM file'),
        (lambda p: p / 'text.dcm', 'text.dcm: is not a DICOM file'),
    ],
)
def test_a_path_without_dicom_is_refused_by_name(tmp_path, make, words):
    (tmp_path / 'text.dcm').write_text('hello') if 'text' in words else None
    with pytest.raises(SourceError, match=words):
        DicomSource(make(tmp_path))
    with pytest.raises(SourceError, match='needs a path'):
        open_source('dicom', '')


@pytest.mark.parametrize('syntax', ['ExplicitVRLittleEndian', 'RLELossless', 'JPEGLosslessProcess14_1'])
def test_a_file_that_is_cut_off_is_played_up_to_the_cut(tmp_path, caplog, syntax):
    frames = ramp(6)
    path = write_xa(tmp_path / 'run.dcm', frames, syntax)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 5])
    source = DicomSource(path)
    found = images(source)
    assert 2 <= len(found) <= 4 and np.array_equal(found, frames[: len(found)])
    assert len(source) == 6 and len(source.skipped) == 6 - len(found)
    assert f'{path}: frame {len(found) + 1} of 6 is missing: the file is cut off' in caplog.text
    assert f'{path}: {6 - len(found)} of 6 frames cannot be read' in caplog.text


@pytest.mark.parametrize(
    'syntax', ['RLELossless', 'JPEGBaselineProcess1', 'JPEGLosslessProcess14_1', 'JPEG2000Lossless']
)
def test_a_corrupt_frame_in_the_middle_is_skipped_and_the_rest_goes_on(tmp_path, caplog, syntax):
    frames = ramp(4)
    path = write_xa(tmp_path / 'run.dcm', frames, syntax)
    ds = pydicom.dcmread(path)
    streams = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=4))
    streams[1] = b'\x00\x01\x02\x03' * 20
    ds.PixelData = encapsulate(streams)
    ds.save_as(path)
    source = DicomSource(path)
    found = list(source)
    assert [frame.stamp for frame in found] == pytest.approx([0, 0.16, 0.24]), 'in their own time'
    assert np.abs(images(found).astype(int) - frames[[0, 2, 3]]).max() <= SYNTAXES[syntax]
    assert source.skipped == [f'{path} frame 2'] and 'frame 2 of 4 cannot be decoded' in caplog.text
    assert len(list(source)) == 3 and len(source.skipped) == 1, 'a second round counts anew'


def test_data_that_end_the_codec_cost_one_frame(tmp_path):
    """GDCM calls std::terminate on this stream; without a process of its own the test would end here."""
    frames = ramp(3)
    path = write_xa(tmp_path / 'run.dcm', frames, 'JPEGLosslessProcess14_1')
    ds = pydicom.dcmread(path)
    streams = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=3))
    frame_header = streams[1].index(b'\xff\xc3')
    broken = bytearray(streams[1])
    broken[frame_header + 4] = 0x7F  # bits of a sample
    streams[1] = bytes(broken)
    ds.PixelData = encapsulate(streams)
    ds.save_as(path)
    source = DicomSource(path)
    assert np.array_equal(images(source), frames[[0, 2]]) and len(source.skipped) == 1


def test_files_of_other_kinds_in_a_folder_are_counted_not_played(tmp_path, caplog):
    write_xa(tmp_path / 'run.dcm', ramp())
    for number in range(8):
        write_xa(tmp_path / f'ct{number}.dcm', ramp(1), Modality='CT')
    (tmp_path / 'empty.dcm').write_bytes(b'')
    source = DicomSource(tmp_path)
    assert len(list(source)) == 3 and len(source.skipped) == 9
    assert caplog.text.count('is CT, not XA or RF') == 5, 'a disc with a whole CT does not flood the log'
    assert '9 of 10 files skipped' in caplog.text


def test_a_folder_without_a_single_run_is_refused(tmp_path):
    for name in 'ab':
        write_xa(tmp_path / f'{name}.dcm', ramp(), Modality='CT')
    with pytest.raises(SourceError, match='holds no DICOM X-ray run'):
        DicomSource(tmp_path)


# Limits


@pytest.mark.parametrize('syntax', ['ExplicitVRLittleEndian', 'JPEGBaselineProcess1'])
def test_memory_stays_flat_over_thousands_of_frames(tmp_path, syntax):
    count, size = 2000, 64
    path = write_xa(tmp_path / 'run.dcm', ramp(1, (size, size)), syntax)
    ds = pydicom.dcmread(path)
    ds.NumberOfFrames = count
    if syntax == 'ExplicitVRLittleEndian':
        ds.PixelData = ds.PixelData * count
    else:
        ds.PixelData = encapsulate(list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)) * count)
    ds.save_as(path)
    del ds
    source = DicomSource(path)
    frames = iter(source)
    next(frames)
    tracemalloc.start()
    try:
        assert sum(1 for _ in frames) == count - 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * size * size, 'some pictures, where the run has 2000'


def test_no_tag_of_the_patient_is_among_those_read():
    keywords = [*TAGS, *FUNCTIONAL_GROUPS, *' '.join(FUNCTIONAL_GROUPS.values()).split()]
    keywords.remove('FrameReferenceDateTime')  # of which only differences are given out
    tags = list(map(pydicom.datadict.tag_for_keyword, keywords))
    assert 0x0010 not in {tag >> 16 for tag in tags}
    kinds = set(map(pydicom.datadict.dictionary_VR, tags))
    assert not kinds & {'PN', 'DA', 'TM', 'DT', 'AS', 'LO', 'LT', 'ST', 'UT', 'SH'}


def test_the_pixel_data_of_an_implicit_file_begin_where_they_do(tmp_path):
    path = write_xa(tmp_path / 'run.dcm', ramp(), 'ImplicitVRLittleEndian')
    data = path.read_bytes()
    value = data.index(struct.pack('<HHI', 0x7FE0, 0x0010, ramp().size)) + 8
    assert DicomSource(path).runs[0].header.pixels == value - 8
