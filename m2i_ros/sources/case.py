"""A recorded case on disk: `case.yaml` beside its pictures, masks, poses and model (docs/architecture.md)."""

import csv
import glob
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import yaml

from m2i_ros.geometry import Camera, is_rigid
from m2i_ros.sources.images import natural_order, read_grey
from m2i_ros.sources.source_frame import SourceError, SourceFrame

CAMERA_KEYS = ('width', 'height', 'fx', 'fy', 'cx', 'cy')
KNOWN_KEYS = ('model', 'camera', 'frame_rate', 'frames', 'video', 'masks', 'initial_pose', 'poses')
NOT_YET = ('dicom', 'bag')


def open_case(path):
    """Return the `CaseSource` of a case folder, or of the case.yaml in it. Raises SourceError."""
    return CaseSource(path)


class CaseSource:
    """Pictures, camera, model and truth of one recorded case.

    path: the case folder or its case.yaml.
    camera: `Camera` or None. initial_pose: (4, 4) T_image_model, metres, or None. frame_rate: frames per second.
    model: `VesselModel` or None, read when first asked for.

    Raises SourceError, naming the file and the key, for what is missing, unknown or contradictory.
    """

    realtime = False
    skipped = ()

    def __init__(self, path):
        path = Path(path)
        self.file = path / 'case.yaml' if path.is_dir() else path
        self.folder = self.file.parent
        self._description = self._read_description()
        self.frame_rate = self._number('frame_rate', 15.0)
        if self.frame_rate <= 0:
            raise self._error('frame_rate', 'must be above 0 frames per second')
        self.camera = self._read_camera()
        self.initial_pose = self._read_initial_pose()
        self._poses = self._read_poses()
        self._frames, self._video = self._find_frames()
        self._masks = self._files('masks') if 'masks' in self._description else []
        if self._frames and self._masks and not {p.stem for p in self._frames} & {p.stem for p in self._masks}:
            raise self._error('masks', 'no mask is named as a frame: name each mask as its frame')

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

    def __len__(self):
        """Return the number of frames; of a video, what its header states."""
        if self._video is None:
            return len(self._frames)
        return int(cv2.VideoCapture(str(self._video)).get(cv2.CAP_PROP_FRAME_COUNT))

    def __iter__(self):
        """Yield the frames as `SourceFrame`. Raises SourceError for a frame or mask that cannot be used."""
        by_name = {path.stem: path for path in self._masks}
        for index, (name, image) in enumerate(self._pictures()):
            stamp = index / self.frame_rate
            if self._video is None:
                mask_path = by_name.get(name)
            else:
                mask_path = self._masks[index] if index < len(self._masks) else None
            mask = None
            if mask_path is not None:
                mask = np.where(read_grey(mask_path) > 127, 255, 0).astype(np.uint8)
                if mask.shape != image.shape:
                    raise SourceError(f'{mask_path}: mask is {mask.shape}, its frame {image.shape} (rows, columns)')
            yield SourceFrame(image, stamp, name, self.camera, self._pose_at(stamp), mask)

    def _pictures(self):
        if self._video is None:
            for path in self._frames:
                yield path.stem, self._checked(read_grey(path), path)
            return
        video = cv2.VideoCapture(str(self._video))
        index = 0
        while True:
            there, picture = video.read()
            if not there:
                break
            grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
            yield f'{self._video.stem}_{index:06d}', self._checked(grey, self._video)
            index += 1
        if index == 0:
            raise SourceError(f'{self._video}: no frame can be decoded: convert it to MP4 or to pictures')

    def _checked(self, image, path):
        if self.camera is not None and image.shape != (self.camera.height, self.camera.width):
            raise SourceError(
                f'{path}: picture is {image.shape[1]}x{image.shape[0]}, the camera of {self.file} '
                f'{self.camera.width}x{self.camera.height}: correct camera width and height'
            )
        return image

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
            if key in NOT_YET:
                raise self._error(key, 'not supported yet: convert it to pictures and name them by frames:')
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
        if entry is None:
            return None
        if not isinstance(entry, dict) or set(entry) != set(CAMERA_KEYS):
            raise self._error('camera', f'must have exactly {", ".join(CAMERA_KEYS)} (pixels)')
        try:
            values = {key: int(entry[key]) if key in ('width', 'height') else float(entry[key]) for key in CAMERA_KEYS}
            return Camera(**values)
        except (TypeError, ValueError) as error:
            raise self._error('camera', error) from error

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
        if ('frames' in self._description) == ('video' in self._description):
            raise SourceError(f'{self.file}: exactly one of frames: (like frames/*.png) and video: is needed')
        if 'frames' in self._description:
            return self._files('frames'), None
        path = self.folder / str(self._description['video'])
        if not path.is_file():
            raise self._error('video', f'{path}: not found')
        return [], path

    def _files(self, key):
        pattern = str(self._description[key])
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
        camera = source.camera
        description['camera'] = {'width': camera.width, 'height': camera.height}
        description['camera'].update({key: float(getattr(camera, key)) for key in ('fx', 'fy', 'cx', 'cy')})
    if source.initial_pose is not None:
        description['initial_pose'] = [float(value) for value in source.initial_pose.ravel()]
    rows = []
    for index, frame in enumerate(source):
        name = frame.name or f'{index:06d}'
        suffix = '.tif' if frame.image.dtype == np.float32 else '.png'  # PNG holds whole numbers only
        _write_picture(folder / 'frames' / f'{name}{suffix}', frame.image)
        description['frames'] = f'frames/*{suffix}'
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


def _write_picture(path, image):
    if not cv2.imwrite(str(path), image):
        raise SourceError(f'{path}: cannot be written: is the disk full, or the folder read-only?')
