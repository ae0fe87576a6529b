"""Writes synthetic X-ray runs as DICOM files, in every transfer syntax that can be encoded here.

python test/sources/xa_files.py FOLDER writes one second of the phantom in each of them, with a DICOMDIR.
"""

import subprocess
import sys
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from m2i_ros.sources.dicom_header import pydicom  # without GDCM

XA = '1.2.840.10008.5.1.4.1.1.12.1'
ENHANCED_XA = '1.2.840.10008.5.1.4.1.1.12.1.1'
XRF = '1.2.840.10008.5.1.4.1.1.12.2'

# What GDCM calls a transfer syntax; those that lose something come with how much, in grey values.
SYNTAXES = {
    'ImplicitVRLittleEndian': 0,
    'ExplicitVRLittleEndian': 0,
    'ExplicitVRBigEndian': 0,
    'DeflatedExplicitVRLittleEndian': 0,
    'RLELossless': 0,
    'JPEGBaselineProcess1': 12,
    'JPEGExtendedProcess2_4': 12,
    'JPEGLosslessProcess14': 0,
    'JPEGLosslessProcess14_1': 0,
    'JPEGLSLossless': 0,
    'JPEGLSNearLossless': 3,
    'JPEG2000Lossless': 0,
    'JPEG2000': 3,
}
# How many bits lossy JPEG can have; the others have any.
BITS = {'JPEGBaselineProcess1': (8,), 'JPEGExtendedProcess2_4': (8, 12)}

GEOMETRY = {
    'DistanceSourceToDetector': 1100.0,
    'DistanceSourceToPatient': 750.0,
    'ImagerPixelSpacing': [0.4, 0.4],
    'PositionerMotion': 'STATIC',
    'PositionerPrimaryAngle': 30.0,
    'PositionerSecondaryAngle': -20.0,
    'PatientPosition': 'HFS',
    'FrameTime': 80.0,
}

NEARLY_MIDNIGHT = datetime(2000, 1, 1, 23, 59, 59, 500_000)

# What a DICOMDIR wants besides.
DISC = {'PatientID': 'phantom', 'StudyDate': '20000101', 'StudyTime': '120000', 'StudyID': '1'}


def xa_dataset(frames, bits=None, **tags):
    """Return an XA dataset, uncompressed: (N, H, W) uint8 or uint16; tags by keyword, None leaves one out."""
    frames = np.asarray(frames)
    allocated = 8 * frames.dtype.itemsize
    bits = bits or allocated
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = tags.pop('SOPClassUID', XA)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = pydicom.uid.generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    values = {
        'Modality': 'XA',
        'SamplesPerPixel': 1,
        'PixelRepresentation': 0,
        'PhotometricInterpretation': 'MONOCHROME2',
        'PixelIntensityRelationship': 'DISP',
        'PatientName': '',
        'PatientID': '',
        'StudyDate': '',
        'StudyTime': '',
        'StudyID': '',
        'AccessionNumber': '',
        'SeriesNumber': 1,
        'InstanceNumber': 1,
        **GEOMETRY,
        **tags,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    if 'FrameTimeVector' in ds:
        ds.FrameIncrementPointer = 0x00181065
    elif 'FrameTime' in ds:
        ds.FrameIncrementPointer = 0x00181063
    ds.PixelData = np.ascontiguousarray(frames).tobytes()
    ds['PixelData'].VR = 'OB' if allocated == 8 else 'OW'
    return ds


def enhance(ds):
    """Turn an XA dataset into Enhanced XA: what functional groups hold is moved there, as values of each frame."""
    count = ds.NumberOfFrames
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = ENHANCED_XA
    angles = {}
    for which in ('Primary', 'Secondary'):
        turns = ds.get(f'Positioner{which}AngleIncrement') or [0] * count
        angles[which] = [float(ds.get(f'Positioner{which}Angle')) + float(turn) for turn in turns]
    ways = {way: ds.get(f'Table{way}Increment') or [0] * count for way in ('Vertical', 'Longitudinal', 'Lateral')}
    seconds = np.cumsum([0.0, *map(float, ds.get('FrameTimeVector', [0])[1:])]) / 1000
    shared, frames = pydicom.Dataset(), [pydicom.Dataset() for _ in range(count)]
    still = {
        'XRayGeometrySequence': {
            'DistanceSourceToDetector': ds.get('DistanceSourceToDetector'),
            'DistanceSourceToIsocenter': ds.get('DistanceSourceToPatient'),
        },
        'FramePixelDataPropertiesSequence': {'ImagerPixelSpacing': ds.get('ImagerPixelSpacing')},
        'PatientOrientationInFrameSequence': {'PatientOrientation': ds.get('PatientOrientation')},
        'FrameVOILUTSequence': {'WindowCenter': ds.get('WindowCenter'), 'WindowWidth': ds.get('WindowWidth')},
    }
    for group, values in still.items():
        _add_group(shared, group, values)
    for index, frame in enumerate(frames):
        moving = {f'Positioner{which}Angle': values[index] for which, values in angles.items()}
        _add_group(frame, 'PositionerPositionSequence', moving)
        # From where the table stands: the positions count from anywhere.
        _add_group(frame, 'TablePositionSequence', {f'TableTop{w}Position': 100 + v[index] for w, v in ways.items()})
        if len(seconds) == count:
            time = NEARLY_MIDNIGHT + timedelta(seconds=seconds[index])
            _add_group(frame, 'FrameContentSequence', {'FrameReferenceDateTime': f'{time:%Y%m%d%H%M%S.%f}'})
    moved = 'Positioner Table FrameTime FrameIncrement DistanceSource Imager PatientOrient Window'.split()
    for element in list(ds):
        if element.keyword.startswith(tuple(moved)):
            del ds[element.tag]
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    return ds


def _add_group(dataset, group, values):
    item = pydicom.Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(item, keyword, value)
    setattr(dataset, group, [item])


def write_xa(path, frames, syntax='ExplicitVRLittleEndian', bits=None, enhanced=False, **tags):
    """Write a run in a transfer syntax, by GDCM's name, and return its path. enhanced: as Enhanced XA."""
    path = Path(path)
    ds = xa_dataset(frames, bits, **tags)
    (enhance(ds) if enhanced else ds).save_as(path, enforce_file_format=True)
    if syntax != 'ExplicitVRLittleEndian':
        encode(path, path, syntax)
    return path


def encode(source, target, syntax):
    """Write the DICOM file `source` in another transfer syntax."""
    encoder = _encoder()
    print(source, target, syntax, sep='\t', file=encoder.stdin, flush=True)
    assert encoder.stdout.readline() == 'done\n', syntax


@cache
def _encoder():
    """Start the process that encodes: GDCM and numba do not go together in one."""
    program = Path(__file__).with_name('xa_encoder.py')
    return subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def write_dicomdir(folder, files):
    """Write a DICOMDIR of copies of the files into a folder, and return its path."""
    from pydicom.fileset import FileSet

    directory = FileSet()
    for file in files:
        directory.add(file)
    directory.write(folder)
    return Path(folder) / 'DICOMDIR'


def phantom_frames(size=128, duration=1.0):
    """Return a second of the phantom as displayed, (N, H, W) uint8, and the `Phantom`."""
    from m2i_ros.simulation import Phantom

    phantom = Phantom('iliofemoral', 0, size, size, duration=duration, mirrored=True, injections=(-3.0,), plateau=60.0)
    return np.stack([frame.image for frame in phantom]), phantom


def main(folder):
    """Write a file a transfer syntax, one of Enhanced XA, then the DICOMDIR; less than 2 MB in all."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    frames, _ = phantom_frames(64)
    files = [write_xa(folder / f'{syntax}.dcm', frames, syntax, **DISC) for syntax in SYNTAXES]
    write_xa(folder / 'enhanced.dcm', frames, enhanced=True, **DISC)
    write_dicomdir(folder / 'disc', files)


if __name__ == '__main__':
    main(sys.argv[1])
