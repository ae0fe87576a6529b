"""DICOM X-ray runs (XA, XRF) as a source: a file, a folder of files, or a DICOMDIR."""

import logging
from pathlib import Path

from m2i_ros.sources.dicom_geometry import GivenGeometry, read_geometry
from m2i_ros.sources.dicom_header import PATIENT_TAGS, Header
from m2i_ros.sources.dicom_run import DicomRun, GivenGreys
from m2i_ros.sources.images import natural_order
from m2i_ros.sources.recorded import is_dicom
from m2i_ros.sources.source_frame import SourceError, SourceFrame, beside

# Seconds from run to run: longer than a registration holds a pose, so that none reaches from one view into another.
PAUSE = 3.0
TOLD = 5  # files that are refused one by one in words; of more, the number: a disc may hold a whole CT

log = logging.getLogger(__name__)


class DicomSource:
    """The frames of all runs that `path` names, one run after the other.

    path: an XA or XRF file, a folder with such files at any depth, or a DICOMDIR. frame_rate: above 0, instead of what
    the files say. window, curve, invert: see `GivenGreys`. keep_patient_tags: let `patient` hold what the
    first file says of the patient; otherwise it is never read. start: called with the `CArm` of a run's first frame,
    returns the pose of the model, (4, 4), from which the search is to start; None: not known. geometry: see
    `GivenGeometry`. second: path of what the other plane of a bi-plane system saw, begun at the same moment, with the
    same isocentre; of the given geometry only `mirrored` and `increments` are meant for it too. '': one plane.

    camera: of the first run, or None. runs: `DicomRun`s. geometries: a `RunGeometry` each.
    What was assumed is logged once, as a warning. Files and frames that cannot be read are skipped with a warning, and
    named in `skipped`. Raises SourceError where there is not one run.
    """

    realtime = False
    model = initial_pose = None

    def __init__(
        self,
        path,
        frame_rate=0.0,
        window='',
        curve='auto',
        invert='auto',
        keep_patient_tags=False,
        start=None,
        second='',
        **geometry,
    ):
        self.path = Path(path)
        common = {name: geometry[name] for name in ('mirrored', 'increments') if name in geometry}
        self.second = DicomSource(second, frame_rate, window, curve, invert, **common) if second else None
        self._start = start
        try:
            greys, given = GivenGreys(window, curve, invert), GivenGeometry(**geometry)
        except ValueError as error:
            raise SourceError(str(error)) from error
        files = _find_files(self.path)
        self.runs, self.geometries, self._refused = [], [], []
        for file in files:
            try:
                run = DicomRun(file, frame_rate, greys, keep_patient_tags)
                geometry = read_geometry(run.header, run.columns, run.rows, len(run), given)
            except SourceError as error:
                if len(files) == 1:
                    raise
                self._refused.append(file)
                if len(self._refused) <= TOLD:
                    log.warning('%s (file skipped)', error)
                continue
            self.runs.append(run)
            self.geometries.append(geometry)
        if len(self._refused) > TOLD:
            log.warning('%s: %d of %d files skipped', self.path, len(self._refused), len(files))
        if not self.runs:
            raise SourceError(f'{path}: holds no DICOM X-ray run (XA or RF) that can be read')
        order = sorted(range(len(self.runs)), key=lambda index: _order(self.runs[index]))
        self.runs = [self.runs[index] for index in order]
        self.geometries = [self.geometries[index] for index in order]
        self.camera = self.geometries[0].camera
        self.frame_rate = self.runs[0].frame_rate
        self.skipped = list(self._refused)
        self._tell_what_is_assumed()

    @property
    def c_arm(self):
        """The `CArm` of the first frame, or None."""
        return next(iter(self.geometries[0].c_arms), None)

    @property
    def patient(self):
        """{keyword: value} of what the first file says of the patient; empty unless `keep_patient_tags`."""
        header = self.runs[0].header
        return {keyword: str(header.get(keyword)) for keyword in PATIENT_TAGS if header.get(keyword)}

    def __len__(self):
        """Return the number of frames the files state."""
        return sum(map(len, self.runs))

    def __iter__(self):
        """Yield a `SourceFrame` a readable frame, with the second plane's picture that is nearest in time."""
        if self.second is None:
            return (yield from self._frames())
        yield from beside(self._frames(), self.second)
        self.skipped += self.second.skipped

    def _frames(self):
        self.skipped = list(self._refused)
        start = 0.0
        for run, geometry in zip(self.runs, self.geometries):
            begins, left_out = True, 0
            with run.opened() as picture:
                for index, stamp in enumerate(run.stamps):
                    try:
                        image = picture(index)
                    except SourceError as error:
                        self.skipped.append(f'{run.path} frame {index + 1}')
                        left_out += 1
                        if left_out == 1:
                            log.warning('%s (frame skipped)', error)
                        continue
                    c_arm = geometry.c_arms[index] if geometry.c_arms else None
                    placed = begins and self._start and c_arm
                    yield SourceFrame(
                        image,
                        start + float(stamp),
                        f'{self._name(run.path)}_{index:06d}',
                        geometry.camera,
                        c_arm=c_arm,
                        table=geometry.tables[index] if len(geometry.tables) else None,
                        initial_pose=self._start(c_arm) if placed else None,
                    )
                    begins = False
            if left_out > 1:
                log.warning('%s: %d of %d frames cannot be read: skipped', run.path, left_out, len(run))
            start += run.following + PAUSE

    def _name(self, file):
        """Return a name for a file that no other in the folder has."""
        if file.suffix.lower() in ('.dcm', '.dicom', '.ima'):
            file = file.with_suffix('')
        try:
            return '_'.join(file.relative_to(self.path).parts) or file.name
        except ValueError:
            return file.name

    def _tell_what_is_assumed(self):
        files = {}
        for run, geometry in zip(self.runs, self.geometries):
            for what in dict.fromkeys((*run.assumed, *geometry.assumed)):
                files[what] = files.get(what, 0) + 1
        if files:
            total = len(self.runs)
            lines = [what if n == total else f'{what} [{n} of {total} files]' for what, n in files.items()]
            log.warning('%s: assumed: %s', self.path, '; '.join(lines))


def _order(run):
    numbers = [run.header.number(f'{what}Number') or 0 for what in ('Series', 'Acquisition', 'Instance')]
    return (*numbers, [natural_order(Path(part)) for part in Path(run.path).parts])


def _find_files(path):
    """Return the DICOM files that a path names, in natural order."""
    if path.is_dir():
        files = [p for p in path.rglob('*') if p.is_file() and (is_dicom(p) or p.suffix.lower() == '.dcm')]
        files = [p for p in files if p.name.upper() != 'DICOMDIR']
        if not files:
            raise SourceError(f'{path}: holds no DICOM file')
        return sorted(files, key=lambda p: [natural_order(Path(part)) for part in p.parts])
    if not path.exists():
        raise SourceError(f'{path}: not found: give a DICOM file, a folder of DICOM files or a DICOMDIR')
    header = Header(path)
    return _files_of_directory(path, header) if header.is_directory else [path]


def _files_of_directory(path, header):
    """Return the images that a DICOMDIR lists (DICOM PS3.3 F.3)."""
    files = []
    for record in header.get('DirectoryRecordSequence') or ():
        try:
            kind, parts = record.get('DirectoryRecordType'), record.get('ReferencedFileID')
        except Exception:  # noqa: BLE001  a damaged record names no file
            continue
        if kind != 'IMAGE' or not parts:
            continue
        parts = [parts] if isinstance(parts, str) else list(map(str, parts))
        if any(part in ('', '.', '..') or '/' in part for part in parts):
            continue  # no way out of the folder
        # Copied from a disc, names are often in lower case.
        candidates = [path.parent.joinpath(*parts), path.parent.joinpath(*map(str.lower, parts))]
        files.append(next((file for file in candidates if file.exists()), candidates[0]))
    if not files:
        raise SourceError(f'{path}: this DICOMDIR lists no image: give the folder of the files')
    return files
