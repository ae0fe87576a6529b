"""A recorded case on disk: `case.yaml` beside its pictures, masks, poses and model (docs/replay.md)."""

import csv
import glob
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import yaml

from m2i_ros.geometry import Camera, is_rigid
from m2i_ros.sources.images import SUFFIXES, natural_order, read_grey
from m2i_ros.sources.recorded import open_recorded
from m2i_ros.sources.source_frame import SecondPicture, SourceError, SourceFrame
from m2i_ros.sources.video import VideoFile

CAMERA_KEYS = ('width', 'height', 'fx', 'fy', 'cx', 'cy')
KNOWN_KEYS = ('model', 'camera', 'frame_rate', 'frames', 'video', 'masks', 'initial_pose', 'poses', 'second')
SECOND_KEYS = ('frames', 'camera', 'T_second_image')


def open_case(path):
    """Return the `CaseSource` of a case folder, or of the case.yaml in it. Raises SourceError."""
    return CaseSource(path)


class CaseSource:
    """Pictures, camera, model and truth of one recorded case.

    path: the case folder or its case.yaml.
    camera: `Camera` or None. initial_pose: (4, 4) T_image_model, metres, or None. frame_rate: frames per second. Where
    case.yaml does not say, they are those of the video, DICOM run or bag that holds the frames.
    model: `VesselModel` or None, read when first asked for. second: whether there are pictures of a second plane.

    Raises SourceError, naming the file and the key, for what is missing, unknown or contradictory.
    """

    realtime = False

    def __init__(self, path):
        path = Path(path)
        self.file = path / 'case.yaml' if path.is_dir() else path
        self.folder = self.file.parent
        self._description = self._read_description()
        self._frames, self._recorded = self._find_frames()
        self.frame_rate = self._number('frame_rate', self._recorded.frame_rate if self._recorded else 15.0)
        if self.frame_rate <= 0:
            raise self._error('frame_rate', 'must be above 0 frames per second')
        self._camera = self._read_camera()
        self.camera = self._camera or (self._recorded.camera if self._recorded else None)
        self.initial_pose = self._read_initial_pose()
        self._poses = self._read_poses()
        self._masks = self._named_as_frames('masks', self._description.get('masks'))
        self._seconds, self._second_camera, self._T_second_image = self._read_second()
        self.second = bool(self._seconds or getattr(self._recorded, 'second', False))

    @cached_property
    def model(self):
        """The vessel model that case.yaml names, or None."""
        if 'model' not in self._description:
            return None
        from m2i_ros.model import load_model

        entry = self._description['model']
        if not isinstance(entry, dict) or not isinstance(entry.get('path'), str):
            raise self._error('model', 'must be like {path: aorta.stl, units: mm, axes: lps}')
        settings = {key: entry[key] for key in ('units', 'axes') if key in entry}
        return load_model(self.folder / entry['path'], **settings)

    @property
    def skipped(self):
        """What of a video, DICOM run or bag could not be read."""
        return self._recorded.skipped if self._recorded else ()

    def __len__(self):
        """Return the number of frames; of a video, what its header states."""
        return len(self._recorded) if self._recorded else len(self._frames)

    def __iter__(self):
        """Yield the frames as `SourceFrame`. Raises SourceError for a frame or mask that cannot be used."""
        for index, frame in enumerate(self._recorded or self._pictures()):
            camera = self._camera or frame.camera
            self._check(frame.image, camera, frame.name or f'frame {index + 1}')
            stamp = index / self.frame_rate if self._states_rate else frame.stamp
            mask_path, mask = self._belonging(self._masks, frame, index), None
            if mask_path is not None:
                mask = np.where(read_grey(mask_path) > 127, 255, 0).astype(np.uint8)
                if mask.shape != frame.image.shape:
                    raise SourceError(
                        f'{mask_path}: mask is {mask.shape}, its frame {frame.image.shape} (rows, columns)'
                    )
            second = frame.second and replace(frame.second, stamp=frame.second.stamp - frame.stamp + stamp)
            if path := self._belonging(self._seconds, frame, index):
                image = read_grey(path)
                self._check(image, self._second_camera, path, 'second: camera')
                second = SecondPicture(image, stamp, self._second_camera, self._T_second_image)
            T = self._pose_at(stamp)
            yield replace(frame, stamp=stamp, camera=camera, T_image_model=T, mask=mask, second=second)

    def _belonging(self, files, frame, index):
        """Return the file that is named as a frame, or None; frames of a recording need not be named as the files."""
        if frame.name in files or not self._recorded:
            return files.get(frame.name)
        return list(files.values())[index] if index < len(files) else None

    @property
    def _states_rate(self):
        return not self._recorded or 'frame_rate' in self._description

    def _pictures(self):
        for path in self._frames:
            yield SourceFrame(read_grey(path), 0.0, path.stem)

    def _check(self, image, camera, name, key='camera'):
        if camera is not None and image.shape != (camera.height, camera.width):
            raise SourceError(
                f'{self.folder}: {name}: picture is {image.shape[1]}x{image.shape[0]}, the {key} of {self.file} '
                f'{camera.width}x{camera.height}: correct its width and height'
            )

    def _pose_at(self, stamp):
        stamps, poses = self._poses
        if not len(stamps):
            return None
        nearest = int(np.argmin(np.abs(stamps - stamp)))
        return poses[nearest] if abs(stamps[nearest] - stamp) < 0.5 / self.frame_rate else None

    def _error(self, key, what):
        return SourceError(f'{self.file}: {key}: {what}')

    def _read_description(self):
        try:
            description = yaml.safe_load(self.file.read_text(encoding='utf-8'))
        except FileNotFoundError as error:
            raise SourceError(f'{self.file}: not found: a case is a folder with a case.yaml in it') from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SourceError(f'{self.file}: cannot be read: {error}') from error
        if not isinstance(description, dict):
            raise SourceError(f'{self.file}: must hold keys like frames:, camera:, model:')
        for key in description:
            if key not in KNOWN_KEYS:
                raise self._error(key, f'unknown key; known are {", ".join(KNOWN_KEYS)}')
        return description

    def _number(self, key, default):
        value = self._description.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._error(key, f'{value!r} is not a number')
        return float(value)

    def _read_camera(self):
        entry = self._description.get('camera')
        return None if entry is None else self._camera_of(entry, 'camera')

    def _camera_of(self, entry, key):
        if not isinstance(entry, dict) or set(entry) != set(CAMERA_KEYS):
            raise self._error(key, f'must have exactly {", ".join(CAMERA_KEYS)} (pixels)')
        try:
            values = {key: int(entry[key]) if key in ('width', 'height') else float(entry[key]) for key in CAMERA_KEYS}
            return Camera(**values)
        except (TypeError, ValueError) as error:
            raise self._error(key, error) from error

    def _read_initial_pose(self):
        values = self._description.get('initial_pose')
        if values is None:
            return None
        return self._pose(values, f'{self.file}: initial_pose')

    def _pose(self, values, where):
        try:
            T = np.array(values, dtype=float).reshape(4, 4)
        except (TypeError, ValueError) as error:
            raise SourceError(f'{where}: 16 numbers are needed, a 4x4 matrix row by row') from error
        if not is_rigid(T):
            raise SourceError(f'{where}: is not a rigid motion (a right-handed rotation and metres)')
        return T

    def _read_second(self):
        """Return {name: file}, `Camera` and T_second_image (4, 4) of a second plane; {}, None, None where none is."""
        entry = self._description.get('second')
        if entry is None:
            return {}, None, None
        if not isinstance(entry, dict) or set(entry) != set(SECOND_KEYS):
            raise self._error('second', f'must have exactly {", ".join(SECOND_KEYS)}')
        files = self._named_as_frames('second: frames', entry['frames'])
        T = self._pose(entry['T_second_image'], f'{self.file}: second: T_second_image')
        return files, self._camera_of(entry['camera'], 'second: camera'), T

    def _read_poses(self):
        if 'poses' not in self._description:
            return np.empty(0), np.empty((0, 4, 4))
        path = self.folder / str(self._description['poses'])
        stamps, poses = [], []
        try:
            with open(path, newline='', encoding='utf-8') as file:
                for number, row in enumerate(csv.reader(file), start=1):
                    if not row or (number == 1 and row[0].strip().startswith('stamp')):
                        continue
                    try:
                        values = [float(value) for value in row]
                    except ValueError as error:
                        raise SourceError(f'{path}: line {number}: {error}') from error
                    poses.append(self._pose(values[1:], f'{path}: line {number}'))
                    stamps.append(values[0])
        except OSError as error:
            raise self._error('poses', f'{path}: {error.strerror}') from error
        return np.array(stamps), np.array(poses).reshape(-1, 4, 4)

    def _find_frames(self):
        """Return the picture files, and the source of the recording that takes their place or None."""
        if ('frames' in self._description) == ('video' in self._description):
            raise SourceError(
                f'{self.file}: exactly one is needed: frames: (like frames/*.png, or a video, DICOM or bag) or video:'
            )
        if 'frames' in self._description:
            files = self._files('frames', self._description['frames'])
            if len(files) > 1 or files[0].suffix.lower() in SUFFIXES:
                return files, None
            return [], open_recorded(files[0])
        path = self.folder / str(self._description['video'])
        if not path.is_file():
            raise self._error('video', f'{path}: not found')
        return [], VideoFile(path)

    def _named_as_frames(self, key, pattern):
        """Return {name: file} of the files that belong to frames; empty where there is no pattern."""
        files = {} if pattern is None else {path.stem: path for path in self._files(key, pattern)}
        if self._frames and files and not files.keys() & {path.stem for path in self._frames}:
            raise self._error(key, 'none is named as a frame: name each file as its frame')
        return files

    def _files(self, key, pattern):
        pattern = str(pattern)
        files = sorted((Path(p) for p in glob.glob(str(self.folder / pattern), recursive=True)), key=natural_order)
        if not files:
            raise self._error(key, f'{pattern}: no file fits')
        return files


def write_case(folder, source):
    """Write a source (`open_source`) as a case folder: pictures, masks, poses, model, case.yaml; return its path.

    Raises SourceError for a folder that holds a case already.
    """
    from m2i_ros.model import save_model

    folder = Path(folder)
    if (folder / 'case.yaml').exists():
        raise SourceError(f'{folder}: holds a case already: give a new folder')
    (folder / 'frames').mkdir(parents=True, exist_ok=True)
    description = {'frame_rate': float(source.frame_rate)}
    if source.model is not None:
        save_model(source.model, folder / 'model.npz')
        description['model'] = {'path': 'model.npz'}
    if source.camera is not None:
        description['camera'] = _camera_entry(source.camera)
    if source.initial_pose is not None:
        description['initial_pose'] = [float(value) for value in source.initial_pose.ravel()]
    rows = []
    for index, frame in enumerate(source):
        name = frame.name or f'{index:06d}'
        suffix = _suffix(frame.image)
        _write_picture(folder / 'frames' / f'{name}{suffix}', frame.image)
        description['frames'] = f'frames/*{suffix}'
        if seen := _usable(frame):
            T = [float(value) for value in seen.T_second_image.ravel()]
            ending = _suffix(seen.image)
            entry = {'frames': f'second/*{ending}', 'camera': _camera_entry(seen.camera), 'T_second_image': T}
            held = description.setdefault('second', entry)
            if held['camera'] != entry['camera'] or not np.allclose(held['T_second_image'], T, rtol=0, atol=1e-6):
                raise SourceError(f'{folder}: the second plane moves or zooms: a case holds one geometry of it')
            (folder / 'second').mkdir(exist_ok=True)
            _write_picture(folder / 'second' / f'{name}{ending}', seen.image)
        if frame.mask is not None:
            (folder / 'masks').mkdir(exist_ok=True)
            _write_picture(folder / 'masks' / f'{name}.png', frame.mask)
            description['masks'] = 'masks/*.png'
        if frame.T_image_model is not None:
            rows.append([repr(float(value)) for value in (frame.stamp, *frame.T_image_model.ravel())])
    if rows:
        with open(folder / 'poses.csv', 'w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows([['stamp_s', *(f't{i}{j}' for i in range(4) for j in range(4))], *rows])
        description['poses'] = 'poses.csv'
    # Last: a folder whose writing was cut off is then no case.
    (folder / 'case.yaml').write_text(yaml.safe_dump(description, sort_keys=False), encoding='utf-8')
    return folder


def _suffix(image):
    return '.tif' if image.dtype == np.float32 else '.png'  # PNG holds whole numbers only


def _camera_entry(camera):
    numbers = {key: float(getattr(camera, key)) for key in ('fx', 'fy', 'cx', 'cy')}
    return {'width': camera.width, 'height': camera.height, **numbers}


def _usable(frame):
    """Return the second picture of a `SourceFrame`, where it is of the same moment and its geometry is known."""
    second = frame.second
    known = second and second.camera is not None and second.T_second_image is not None
    return second if known and abs(second.stamp - frame.stamp) < 1e-3 else None


def _write_picture(path, image):
    if not cv2.imwrite(str(path), image):
        raise SourceError(f'{path}: cannot be written: is the disk full, or the folder read-only?')
