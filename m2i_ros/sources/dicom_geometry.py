"""The X-ray system of a DICOM run: camera, C-arm and table of each frame (docs/dicom.md)."""

from dataclasses import dataclass

import numpy as np

from m2i_ros.geometry import Camera, CArm
from m2i_ros.sources.dicom_header import describe
from m2i_ros.sources.source_frame import SourceError

USUAL_SOURCE_TO_ISOCENTRE = 0.75  # metres, where a file does not say
_DIRECTIONS = {'L': (1, 0, 0), 'R': (-1, 0, 0), 'P': (0, 1, 0), 'A': (0, -1, 0), 'H': (0, 0, 1), 'F': (0, 0, -1)}


@dataclass(frozen=True)
class GivenGeometry:
    """What the user says of the X-ray system, where the file does not or is wrong.

    source_to_detector, source_to_isocentre: metres; 0.0: what the file says. pixel_spacing_mm: at the detector; the
    same. principal_point: where the central ray meets the picture, 'COLUMN ROW' in pixels from the first one's centre;
    '': what the file says. angles_deg: primary and secondary angle as 'LAO CRANIAL', like '30 -20'; '': the same.
    mirrored: 'yes' for pictures stored as displayed (fx < 0), 'no' for pictures as the source sees them, 'auto'.
    increments: angles of a turning C-arm are stated 'from_first' frame or 'from_last' frame.

    Raises ValueError, naming the parameter, for what cannot be.
    """

    source_to_detector: float = 0.0
    source_to_isocentre: float = 0.0
    pixel_spacing_mm: float = 0.0
    principal_point: str = ''
    angles_deg: str = ''
    mirrored: str = 'auto'
    increments: str = 'from_first'

    def __post_init__(self):
        for name in ('source_to_detector', 'source_to_isocentre', 'pixel_spacing_mm'):
            if not 0 <= getattr(self, name) < 10:
                raise ValueError(f'dicom.{name}: {getattr(self, name)} must be from 0 to 10')
        if self.mirrored not in ('auto', 'yes', 'no'):
            raise ValueError(f'dicom.mirrored: "{self.mirrored}" must be auto, yes or no')
        if self.increments not in ('from_first', 'from_last'):
            raise ValueError(f'dicom.increments: "{self.increments}" must be from_first or from_last')
        two_numbers('dicom.principal_point', self.principal_point)
        self.angles  # noqa: B018  raises where they are none

    @property
    def angles(self):
        """(primary, secondary) in degrees, or None where they are not given."""
        angles = two_numbers('dicom.angles_deg', self.angles_deg)
        if angles and (abs(angles[0]) > 180 or abs(angles[1]) > 90):
            raise ValueError(f'dicom.angles_deg: "{self.angles_deg}" must be within 180 and 90 degrees')
        return angles


def two_numbers(name, text):
    """Return the two numbers of a text like '30 -20', or None where it is empty. Raises ValueError with the name."""
    if not text.strip():
        return None
    try:
        one, other = map(float, text.split())
        if np.isfinite([one, other]).all():
            return one, other
    except ValueError:
        pass
    raise ValueError(f'{name}: "{text}" must be two numbers, like "30 -20"')


@dataclass(frozen=True)
class RunGeometry:
    """Camera, C-arm and table of a run.

    camera: `Camera`, or None where distance or spacing are not known. c_arms: a `CArm` a frame, or empty.
    tables: (N, 3) how far the table has moved since the first frame, metres along the isocentre's axes, or empty.
    assumed: what was taken for granted, in words, each with the parameter that says otherwise.
    """

    camera: Camera | None
    c_arms: tuple
    tables: np.ndarray
    assumed: tuple


def read_geometry(header, width, height, count, given):
    """Return the `RunGeometry` of a `Header` with pictures of width x height, `count` frames, and `GivenGeometry`."""
    return _Reader(header, width, height, count, given).read()


class _Reader:
    def __init__(self, header, width, height, count, given):
        self._header, self._given = header, given
        self._width, self._height, self._count = width, height, count
        self._assumed = []

    def read(self):
        detector = self._given.source_to_detector or self._distance('DistanceSourceToDetector')
        spacing = self._spacing()
        self._tell_what_changes()
        c_arms = self._c_arms(detector)
        camera = None
        if not detector:
            self._assume(f'no camera: {describe("DistanceSourceToDetector")} is missing', 'dicom.source_to_detector')
        if spacing is None:
            self._assume(f'no camera: {describe("ImagerPixelSpacing")} is missing', 'dicom.pixel_spacing_mm')
        if detector and spacing is not None:
            rows, columns = map(float, spacing)
            column, row = two_numbers('', self._given.principal_point) or self._principal_point(spacing)
            camera = Camera(
                self._width,
                self._height,
                (-detector if self._mirrored(c_arms) else detector) / columns,
                detector / rows,
                column,
                row,
            )
        return RunGeometry(camera, c_arms, self._tables(), tuple(self._assumed))

    def _assume(self, what, parameter=''):
        self._assumed.append(f'{what} ({parameter})' if parameter else what)

    def _tell_what_changes(self):
        for keyword in ('DistanceSourceToDetector', 'DistanceSourceToIsocenter'):
            if len(set(self._header.numbers_of_frames(keyword))) > 1:
                self._assume(f'{describe(keyword)} as in the first frame, though it changes')

    def _distance(self, keyword):
        """Return a distance of the X-ray system in metres, or None where the file has none that could be."""
        value = self._header.number(keyword)
        return 1e-3 * value if value is not None and 100 <= value <= 5000 else None

    def _spacing(self):
        """Return the spacing of rows and of columns at the detector, metres, or None."""
        if self._given.pixel_spacing_mm:
            return np.full(2, 1e-3 * self._given.pixel_spacing_mm)
        values = self._header.numbers('ImagerPixelSpacing')
        if len(values) in (1, 2) and all(0.01 <= value <= 10 for value in values):
            return 1e-3 * np.array([values[0], values[-1]])
        for keyword in ('FieldOfViewDimensions', 'FieldOfViewDimensionsInFloat', 'IntensifierSize'):
            sizes = self._header.numbers(keyword)
            if sizes and 20 <= sizes[0] == sizes[-1] <= 1000:
                spacing = sizes[0] / max(self._width, self._height)
                self._assume(f'pixel spacing {spacing:.3f} mm from {describe(keyword)}', 'dicom.pixel_spacing_mm')
                return np.full(2, 1e-3 * spacing)
        return None

    # Where the central ray hits the picture

    def _principal_point(self, spacing):
        """Return column and row of the detector's centre, which the central ray meets."""
        middle = (self._width - 1) / 2, (self._height - 1) / 2
        origin = self._header.numbers('FieldOfViewOrigin')
        element = self._header.numbers('DetectorElementSpacing')
        active = self._header.numbers('DetectorActiveDimensions')
        if len(origin) != 2 or len(element) != 2 or not active or min(element) <= 0:
            self._assume('central ray through the centre of the picture', 'dicom.principal_point')
            return middle
        begin = self._header.numbers('DetectorActiveOrigin')
        origin, element = np.array(origin), np.array(element)
        centre = np.array([active[0], active[-1]]) / 2 + (np.array(begin) * element if len(begin) == 2 else 0)
        turns = round((self._header.number('FieldOfViewRotation') or 0) / 90) % 4
        size = 1e3 * spacing * (self._height, self._width)
        offset = centre - origin * element - (size[::-1] if turns % 2 else size) / 2
        for _ in range(turns):  # a quarter clockwise: what was on the right is below
            offset = np.array([offset[1], -offset[0]])
        if self._header.text('FieldOfViewHorizontalFlip') == 'YES':
            offset[1] = -offset[1]
        if (np.abs(offset) > size).any():
            self._assume(
                f'central ray through the centre of the picture: {describe("FieldOfViewOrigin")} leads far out',
                'dicom.principal_point',
            )
            return middle
        down, right = map(float, 1e-3 * offset / spacing)
        return middle[0] + right, middle[1] + down

    def _mirrored(self, c_arms):
        """Return whether the picture is stored as displayed, facing the patient."""
        if self._given.mirrored != 'auto':
            return self._given.mirrored == 'yes'
        row, _, column = self._header.text('PatientOrientation').partition('\\')
        if c_arms and row and column and set(row + column) <= set(_DIRECTIONS):
            x, y, _ = c_arms[0].T_image_isocentre[:3, :3]
            along, down = _direction(row) @ x, _direction(column) @ y
            if down > 0.5 and abs(along) > 0.5:
                return bool(along < 0)
            self._assume(
                f'stored as displayed: {describe("PatientOrientation")} {row}\\{column} does not fit the angles',
                'dicom.mirrored',
            )
        else:
            self._assume('stored as displayed, facing the patient, head up', 'dicom.mirrored')
        return True

    # How the C-arm and the table stand

    def _c_arms(self, detector):
        angles = self._given.angles or self._angles()
        if angles is None:
            self._assume(f'no C-arm: {describe("PositionerPrimaryAngle")} or its second is missing', 'dicom.angles_deg')
            return ()
        isocentre = self._isocentre(detector)
        position = self._header.text('PatientPosition')
        if position != 'HFS':
            what = f'patient supine, head first: {describe("PatientPosition")} is {position or "missing"}'
            self._assume(what, 'else give dicom.angles_deg about the patient')
        primary, secondary = self._increments('Primary'), self._increments('Secondary')
        try:
            return tuple(
                CArm(p, s, isocentre, max(isocentre, detector or isocentre))
                for p, s in zip(np.radians(angles[0] + primary), np.radians(angles[1] + secondary))
            )
        except ValueError as error:
            raise SourceError(f'{self._header.path}: {error}') from error

    def _angles(self):
        values = [self._header.number(f'Positioner{which}Angle') for which in ('Primary', 'Secondary')]
        there = all(value is not None and abs(value) <= limit for value, limit in zip(values, (180, 90)))
        return tuple(values) if there else None

    def _isocentre(self, detector):
        if self._given.source_to_isocentre:
            return self._given.source_to_isocentre
        distance = self._distance('DistanceSourceToPatient') or self._distance('DistanceSourceToIsocenter')
        if distance and distance <= (detector or distance):
            return distance
        magnification = self._header.number('EstimatedRadiographicMagnificationFactor')
        if detector and magnification and 1 <= magnification <= 5:
            what = f'source to isocentre {detector / magnification:.3f} m from'
            self._assume(f'{what} {describe("EstimatedRadiographicMagnificationFactor")}', 'dicom.source_to_isocentre')
            return detector / magnification
        usual = min(USUAL_SOURCE_TO_ISOCENTRE, detector or USUAL_SOURCE_TO_ISOCENTRE)
        self._assume(
            f'source to isocentre {usual:g} m: {describe("DistanceSourceToPatient")} is missing or more than to the '
            f'detector',
            'dicom.source_to_isocentre',
        )
        return usual

    def _increments(self, which):
        """Return how far an angle is from the first frame's, degrees, a frame."""
        keyword = f'Positioner{which}AngleIncrement'
        values = self._per_frame(keyword)
        if values is None:
            angles = self._header.numbers_of_frames(f'Positioner{which}Angle')
            return np.array(angles) - angles[0] if len(angles) == self._count else np.zeros(self._count)
        return np.cumsum(values) if self._given.increments == 'from_last' else values

    def _tables(self):
        # The names follow an operator at the table's side: longitudinal is towards LAO, lateral towards cranial.
        values = [self._per_frame(f'Table{way}Increment') for way in ('Longitudinal', 'Vertical', 'Lateral')]
        if all(value is None for value in values):
            values = self._table_positions()
        if all(value is None for value in values):
            return np.empty((0, 3))
        return 1e-3 * np.stack([np.zeros(self._count) if v is None else v for v in values], axis=1)

    def _table_positions(self):
        """Return how far the table is from where the first frame has it, by functional groups: as its increments."""
        ways = (f'TableTop{way}Position' for way in ('Longitudinal', 'Vertical', 'Lateral'))
        positions = [self._header.numbers_of_frames(way) for way in ways]
        positions = [np.array(p) - p[0] if len(p) == self._count else None for p in positions]
        if not any(p is not None and p.any() for p in positions):
            return [None]
        turns = ('TableHorizontalRotationAngle', 'TableHeadTiltAngle', 'TableCradleTiltAngle')
        if any(len(set(self._header.numbers_of_frames(turn))) > 1 for turn in turns):
            self._assume('no motion of the table: it turns, and positions are then not comparable')
            return [None]
        return positions

    def _per_frame(self, keyword):
        values = self._header.numbers(keyword)
        if not any(values):
            return None
        if len(values) != self._count:
            self._assume(f'no motion by {describe(keyword)}: {len(values)} values for {self._count} frames')
            return None
        return np.array(values)


def _direction(letters):
    """Return the unit vector, LPS, of DICOM's letters: their order is that of their weight."""
    vector = sum(np.array(_DIRECTIONS[letter], float) * 0.5**place for place, letter in enumerate(letters))
    return vector / max(np.linalg.norm(vector), 1e-9)
