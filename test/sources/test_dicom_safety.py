"""What DICOM files must never do: tell who the patient is, or end, hang or crash the process that reads them."""

import logging
import random
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, RepeatersDictionary, dictionary_keyword, dictionary_VR
from rosbags.highlevel import AnyReader
from xa_files import BITS, DISC, SYNTAXES, enhance, write_dicomdir, write_xa, xa_dataset

import m2i_ros.segmentation
from m2i_ros.replay import main
from m2i_ros.segmentation import VesselMask
from m2i_ros.sources import SourceError
from m2i_ros.sources.dicom import DicomSource

NAME, DAY = 'PLANTED^NAME', '19480517'
OF_THE_PATIENT = ('Patient', 'Physician', 'Operator', 'Institution', 'Study', 'Accession', 'Comments', 'Person')
NOT_OF_THE_PATIENT = ('PatientPosition', 'PatientOrientation', 'StudyInstanceUID')


def planted():
    """Return {keyword: value} for all attributes of the patient, of people and of the study that hold text or dates."""
    values = {}
    for tag in DicomDictionary:
        if tag in RepeatersDictionary or tag >> 16 < 0x0008 or not dictionary_keyword(tag):
            continue
        keyword, kind = dictionary_keyword(tag), dictionary_VR(tag)
        if tag >> 16 != 0x0010 and kind != 'PN' and not any(word in keyword for word in OF_THE_PATIENT):
            continue
        if keyword in NOT_OF_THE_PATIENT:
            continue
        if kind in ('PN', 'LO', 'SH', 'LT', 'ST', 'UT', 'UC'):
            values[keyword] = NAME
        elif kind == 'CS':
            values[keyword] = 'PLANTED NAME'
        elif kind == 'DA':
            values[keyword] = DAY
        elif kind == 'DT':
            values[keyword] = DAY + '120000'
        elif kind == 'SQ':
            item = pydicom.Dataset()
            item.PatientName, item.PatientID, item.PatientBirthDate = NAME, NAME, DAY
            values[keyword] = [item]
    return values


def frames(count=3, size=64):
    y, x = np.mgrid[:size, :size]
    return np.stack([(x * 3 + y + 5 * index) % 256 for index in range(count)]).astype(np.uint8)


class DarkIsVessel:
    info = {'engine': 'threshold', 'weights': 'none', 'hash': '0'}

    def __init__(self, *_):
        pass

    def reset(self):
        pass

    def warm_up(self):
        pass

    def segment(self, image):
        return VesselMask(np.where(image < 100, 255, 0).astype(np.uint8), np.ones(image.shape, bool))


def says_nothing(text):
    text = text.upper()
    return not any(word in text for word in ('PLANTED', DAY))


def test_no_output_tells_who_the_patient_is(tmp_path, caplog, capfd, recwarn, monkeypatch):
    monkeypatch.setattr(m2i_ros.segmentation, 'Segmenter', DarkIsVessel)
    caplog.set_level(logging.DEBUG, logger='')
    values = planted()
    assert len(values) > 150 and {'PatientName', 'OtherPatientIDsSequence', 'StudyDescription'} <= set(values)
    folder = tmp_path / 'runs'
    folder.mkdir()
    write_xa(folder / 'good.dcm', frames(), **values)
    write_xa(folder / 'packed.dcm', frames(), 'JPEGLosslessProcess14_1', **values, WindowCenter=1, WindowWidth=0)
    deflated = write_xa(folder / 'deflated.dcm', frames(), 'DeflatedExplicitVRLittleEndian', **values)
    ds = enhance(xa_dataset(frames(), **values))
    for groups in (*ds.SharedFunctionalGroupsSequence, *ds.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence = [pydicom.Dataset()]
        groups.FrameContentSequence[0].FrameReferenceDateTime = DAY + '120000'
        groups.FrameContentSequence[0].FrameComments = groups.PatientName = NAME
    ds.save_as(folder / 'enhanced.dcm', enforce_file_format=True)
    write_xa(folder / 'ct.dcm', frames(), **values, Modality='CT')
    cut = write_xa(folder / 'cut.dcm', frames(), **values).read_bytes()
    (folder / 'cut.dcm').write_bytes(cut[: -len(cut) // 4])
    (folder / 'stub.dcm').write_bytes(cut[: cut.index(NAME.encode()) + 3])
    (folder / 'broken.dcm').write_bytes(deflated.read_bytes()[:-300])
    # The name where a number, a code or a length belongs.
    for number, tag in enumerate((b'\x18\x00\x10\x11', b'\x08\x00\x60\x00', b'\x28\x00\x10\x00', b'\x18\x00\x63\x10')):
        place = cut.index(tag) + 6
        (folder / f'name{number}.dcm').write_bytes(
            cut[:place] + len(NAME).to_bytes(2, 'little') + NAME.encode() + cut[place + 2 :]
        )

    assert main([str(folder), '--output', str(tmp_path / 'out')]) == 1, 'some cannot be read'
    source = DicomSource(folder)
    assert source.patient == {} and len(source.skipped) > 3
    told = [caplog.text, *capfd.readouterr(), *(str(warning.message) for warning in recwarn)]
    told += [repr([vars(frame) for frame in source]), repr(source.skipped)]
    written = [file for file in tmp_path.rglob('*') if file.is_file() and folder not in file.parents]
    assert {file.name for file in written} == {'out.json', 'metadata.yaml', 'out.mcap'}
    told += [file.read_bytes().decode('latin-1') for file in written]
    for file in folder.iterdir():
        try:
            DicomSource(file)
        except SourceError as error:
            told += [str(error), repr(error.__cause__)]
    assert 'ct.dcm' in told[0], 'or nothing was read'
    for text in told:
        assert says_nothing(text)
    with AnyReader([tmp_path / 'out']) as reader:
        recorded = b''.join(bytes(data) for _, _, data in reader.messages())
    assert len(recorded) > 3 * 64 * 64
    assert NAME.encode() not in recorded and DAY.encode() not in recorded


def test_a_dicomdir_tells_nothing_either(tmp_path, caplog):
    file = write_xa(tmp_path / 'a.dcm', frames(), **{**DISC, 'PatientID': NAME}, PatientName=NAME)
    directory = write_dicomdir(tmp_path / 'disc', [file])
    next((tmp_path / 'disc').rglob('IM*')).unlink()
    with pytest.raises(SourceError) as error:
        DicomSource(directory)
    assert says_nothing(str(error.value) + caplog.text)


def test_whoever_asks_for_the_patient_gets_him(tmp_path):
    path = write_xa(tmp_path / 'run.dcm', frames(), PatientName=NAME, StudyDate=DAY)
    patient = DicomSource(path, keep_patient_tags=True).patient
    assert patient == {'PatientName': NAME, 'StudyDate': DAY}


def test_the_codecs_stay_out_of_the_process(tmp_path):
    """GDCM makes its symbols global, and with them numba's compiler breaks the heap."""
    path = write_xa(tmp_path / 'run.dcm', frames(), 'JPEGLosslessProcess14_1')
    code = (
        'import sys; from m2i_ros.sources import open_source; '
        f'print(len(list(open_source("dicom", {str(path)!r}))), "gdcm" in sys.modules)'
    )
    told = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ['3', 'False']


def mutated(data, rng):
    """Return a file's bytes after one to sixteen accidents, half of them in the header."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(128, min(len(data), 1600) if rng.random() < 0.5 else len(data))
        accident = rng.randrange(6)
        if accident == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif accident == 1:
            data[place] = rng.choice((0, 255, 127, 128))
        elif accident == 2:
            del data[max(place, 200) :]
        elif accident == 3:
            del data[place : place + rng.randrange(1, 64)]
        elif accident == 4:
            data[place:place] = rng.randbytes(rng.randrange(1, 16))
        else:
            data[place : place + 4] = b'\xff\xff\xff\xff'
        if len(data) < 200:
            break
    return bytes(data)


@pytest.mark.timeout(120)
def test_a_thousand_damaged_files_raise_nothing_but_what_is_documented(tmp_path):
    tags = dict(
        PositionerPrimaryAngleIncrement=[0, 1, 2],
        TableLateralIncrement=[0, 1, 2],
        WindowCenter=100,
        WindowWidth=80,
        FieldOfViewOrigin=[5, 6],
        PatientOrientation=['L', 'F'],
    )
    files = [write_xa(tmp_path / 'whole.dcm', frames(3, 24), enhanced=True, **tags).read_bytes()] * 3
    for syntax in SYNTAXES:
        files.append(write_xa(tmp_path / 'whole.dcm', frames(3, 24), syntax, **tags).read_bytes())
        if 12 in BITS.get(syntax, (12,)):
            deep = frames(3, 24).astype(np.uint16) * 16
            files.append(write_xa(tmp_path / 'whole.dcm', deep, syntax, 12, **tags).read_bytes())
    rng, path, outcomes = random.Random(20261123), tmp_path / 'run.dcm', {'refused': 0, 'whole': 0, 'partly': 0}
    for number in range(1000):
        path.write_bytes(mutated(files[number % len(files)], rng))
        try:
            source = DicomSource(path)
            found = list(source)
        except SourceError as error:
            assert str(path) in str(error)
            outcomes['refused'] += 1
            continue
        assert len(found) + len(source.skipped) == len(source)
        for frame in found:
            assert frame.image.ndim == 2 and frame.image.dtype in (np.uint8, np.uint16)
            assert np.isfinite(frame.stamp) and (frame.camera is None or frame.camera.width == frame.image.shape[1])
        outcomes['whole' if len(found) == 3 else 'partly'] += 1
    assert min(outcomes.values()) > 50, f'{outcomes}: the accidents reach all of it'
