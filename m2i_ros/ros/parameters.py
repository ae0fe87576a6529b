"""The parameters of the nodes, in one table.

Declaration with descriptors, validation, the settings of the rooms, README's table (`python -m m2i_ros.ros.parameters`)
and `config/pipeline.yaml` (the pipeline's, with `--yaml`) all come from the rows below.
"""

import math
import sys
import textwrap
from dataclasses import dataclass, fields
from pathlib import Path

from m2i_ros.geometry import CArm, inverse
from m2i_ros.pipeline import APART
from m2i_ros.registration.settings import RegistrationSettings
from m2i_ros.segmentation.polarity import POLARITIES
from m2i_ros.segmentation.segmenter import LARGEST_SIDE
from m2i_ros.sources.opening import KINDS


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    live: may change while the node runs; the others are read once, at the start.
    minimum, maximum: the smallest and the largest value allowed, of a number. choices: the values allowed, of a text.
    """

    name: str
    default: bool | int | float | str
    description: str
    unit: str = ''
    live: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple = ()

    def refusal(self, value):
        """Return why `value` is not allowed, in words, or '' where it is."""
        if type(value) is not type(self.default):
            return f'{self.name}: {value!r} must be of type {self.type_name}'
        if self.choices and value not in self.choices:
            return f'{self.name}: "{value}" must be one of {", ".join(self.choices)}'
        if isinstance(value, float) and not math.isfinite(value):
            return f'{self.name}: {value} must be a finite number'
        if self.minimum is not None and not self.minimum <= value <= self.maximum:
            return f'{self.name}: {value} must be from {self.allowed}'
        return ''

    @property
    def type_name(self):
        """The type, in words."""
        return 'float (write 1.0, not 1)' if isinstance(self.default, float) else type(self.default).__name__

    @property
    def allowed(self):
        """The values allowed, in words; '' where all of the type are."""
        if self.minimum is None:
            return ', '.join(self.choices)
        return f'{self.minimum:g} to {self.maximum:g} {self.unit}'.strip()


def _of_registration():
    """The rows of `RegistrationSettings`: defaults and ranges from there, so that they cannot disagree."""
    rows = {
        'accept_mm': ('The confidence of a pose is the probability that its projected error is below.', 'mm'),
        'accept_probability': ('A pose is believed only where its confidence is at least this.', ''),
        'max_hold': (
            'How long the last pose is held once contrast is gone; given out only while its growing error is believed.',
            's',
        ),
        'max_doubt': ('How long a track survives refused frames; nothing is given out meanwhile.', 's'),
        'max_keep': (
            'How long a picture of before the C-arm turned is kept as a second view of those after, where TF tells how '
            'it turned (`frames.fixed`). 0.0: none is.',
            's',
        ),
        'keep_angle': ('By how much the C-arm must have turned for that.', 'rad'),
        'search_interval': ('From a search that found nothing to the next.', 's'),
        'starts': ('Poses tried in a search.', ''),
        'min_vessel_fraction': ('Share of the valid picture that must be vessel before a search.', ''),
        'min_overlap': ('Overlap of the best start with the vessels below which a search ends early.', ''),
        'min_contrast': ('Share of the projected model that must be vessel to track; below, contrast is gone.', ''),
        'max_filling': ('Growth of the vessel area above which contrast still fills in, and a search waits.', '1/s'),
        'prior_rotation': ('Standard deviation of a start given without covariance: rotation.', 'rad'),
        'prior_in_plane': ('The same: position across the central ray.', 'm'),
        'prior_depth': ('The same: position along the central ray.', 'm'),
        'drift_rotation': ('How far the anatomy turns unseen, standard deviation after 1 s.', 'rad'),
        'drift_in_plane': ('The same: motion across the central ray.', 'm'),
        'drift_depth': ('The same: motion along the central ray.', 'm'),
    }
    return tuple(
        Parameter(
            f'registration.{field.name}',
            field.default,
            *rows[field.name],
            True,
            *RegistrationSettings.RANGES[field.name],
        )
        for field in fields(RegistrationSettings)
        if field.name in rows
    ) + (
        Parameter(
            'registration.matching',
            RegistrationSettings.matching,
            'Network that moves the best starts of a search before they are refined: none, default, or the path of an '
            '.onnx file of `train matching`. See docs/matching.md for what it brings.',
        ),
        Parameter(
            'registration.deformation',
            RegistrationSettings.deformation,
            'Whether vessel/centerline and the overlay follow vessels that a wire or breathing has bent; TF and pose '
            'stay rigid. See docs/deformation.md for what it brings.',
            live=True,
        ),
    )


def _of_dicom():
    """The rows that say what a DICOM file does not say, or says wrong."""
    auto = ('auto', 'yes', 'no')
    return (
        Parameter(
            'dicom.source_to_detector', 0.0, 'Instead of (0018,1110); 0.0: what the file says.', 'm', False, 0.0, 9.0
        ),
        Parameter('dicom.source_to_isocentre', 0.0, 'Instead of (0018,1111); the same.', 'm', False, 0.0, 9.0),
        Parameter(
            'dicom.pixel_spacing_mm',
            0.0,
            'At the detector, instead of (0018,1164); the same.',
            'mm',
            minimum=0.0,
            maximum=9.0,
        ),
        Parameter(
            'dicom.principal_point',
            '',
            'Column and row where the central ray meets the picture, like `255.5 255.5`. Empty: what the file says, or '
            'the middle.',
            'px',
        ),
        Parameter(
            'dicom.angles_deg',
            '',
            'LAO and cranial angle, like `30 -20`, instead of (0018,1510) and (0018,1511). Empty: what the file says.',
            'deg',
        ),
        Parameter(
            'dicom.increments',
            'from_first',
            'Angles of a turning C-arm, (0018,1520): each counts from the first frame, or from the one before it.',
            choices=('from_first', 'from_last'),
        ),
        Parameter(
            'dicom.mirrored',
            'auto',
            'yes: stored as displayed, facing the patient (fx < 0); no: as the source sees it; auto: by (0020,0020), '
            'or yes.',
            choices=auto,
        ),
        Parameter(
            'dicom.window',
            '',
            'Centre and width in stored values, like `2048 1500`, instead of (0028,1050) and (0028,1051). Empty: what '
            'the file says.',
        ),
        Parameter(
            'dicom.curve',
            'auto',
            'Of grey values without a window: linear as stored, log, or auto: log where (0028,1040) is LIN.',
            choices=('auto', 'linear', 'log'),
        ),
        Parameter(
            'dicom.invert',
            'auto',
            'yes: black and white change places; auto: where contrast would be bright, by (0028,1041) and (0028,0004).',
            choices=auto,
        ),
        Parameter(
            'dicom.isocentre',
            '',
            "What of the model (`model.path`) lies at the isocentre: `centroid`, or x y z in metres of the model's "
            'axes. Then each run begins with an initialpose by its angles. Empty: not known.',
        ),
        Parameter(
            'dicom.second',
            '',
            'Of a bi-plane system: path of the file of the other plane, begun at the same moment; frames are paired by '
            'their times. Empty: one plane.',
        ),
    )


INPUT = (
    Parameter(
        'image_transport',
        'raw',
        'What to listen to: `image` (raw) or `image/compressed`.',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'depth',
        1,
        'Frames that may wait. 1: the newest wins and latency stays low. More: up to that number none is lost.',
        minimum=1,
        maximum=10000,
    ),
)
SEGMENTATION = (
    Parameter('segmentation.weights', 'default', 'Name of shipped weights, or path of a weights file.'),
    Parameter(
        'segmentation.engine',
        'auto',
        'Inference engine; auto takes the first that is installed and has its file.',
        choices=('auto', 'openvino_int8', 'openvino', 'onnxruntime', 'torch'),
    ),
    Parameter('segmentation.threads', 2, 'CPU threads of the engine.', minimum=1, maximum=64),
    Parameter(
        'segmentation.threshold',
        0.0,
        'Vessel where the probability is above this; 0.0: the threshold calibrated with the weights.',
        live=True,
        minimum=0.0,
        maximum=0.999,
    ),
    Parameter(
        'segmentation.largest_side',
        LARGEST_SIDE,
        'Larger pictures are reduced to it for the network, small ones enlarged and sharpened; masks have their size.',
        'px',
        live=True,
        minimum=64,
        maximum=4096,
    ),
    Parameter(
        'segmentation.polarity',
        'auto',
        'How contrast is shown; auto: found out from the pictures.',
        live=True,
        choices=POLARITIES,
    ),
    Parameter(
        'segmentation.reference',
        True,
        'Whether pictures are compared with an earlier one without contrast, where the stream has one.',
        live=True,
    ),
)
MODEL = (
    Parameter(
        'model.path',
        '',
        "The patient's vessel model: mesh (STL, PLY, OBJ), .npz from prepare_model, case folder, or "
        'phantom:ANATOMY:SEED. Empty: no registration.',
    ),
    Parameter('model.units', 'mm', 'Unit of length of a mesh file.', choices=('mm', 'cm', 'm')),
    Parameter(
        'model.axes',
        'lps',
        'Axes of a mesh file: lps (DICOM, ITK), ras (NIfTI, Slicer), native (unknown).',
        choices=('lps', 'ras', 'native'),
    ),
    Parameter('frames.model', 'vessel_model', "The model's TF frame: child of the image's frame."),
)
VIEW = (
    Parameter(
        'view.source_to_isocentre',
        0.0,
        "X-ray source to isocentre, DICOM (0018,1111). Above 0: the search starts from the C-arm's angles with the "
        "model's centroid at the isocentre. 0.0: it waits for `initialpose`.",
        'm',
        True,
        0.0,
        2.0,
    ),
    Parameter(
        'view.primary_angle_deg',
        0.0,
        'Positioner primary angle, DICOM (0018,1510): LAO positive, RAO negative.',
        'deg',
        True,
        -180.0,
        180.0,
    ),
    Parameter(
        'view.secondary_angle_deg',
        0.0,
        'Positioner secondary angle, DICOM (0018,1511): cranial positive, caudal negative.',
        'deg',
        True,
        -90.0,
        90.0,
    ),
)
FIXED = Parameter(
    'frames.fixed',
    '',
    "TF frame in which the patient lies still, as `table`: where TF tells how the image's frame moves in it, the pose "
    'is carried along. Empty: no motion of C-arm or table is looked up.',
)
REGISTRATION = MODEL + (FIXED,) + _of_registration() + VIEW
PAIRS = (
    Parameter(
        'second.tolerance',
        APART,
        'By how much the stamps of `image` and `second/image` may differ to be one pair. Planes that expose in turns '
        'need half of the time between frames, and a little more.',
        's',
        True,
        0.0,
        1.0,
    ),
    Parameter(
        'second.patience',
        0.05,
        'How long an image waits for its `second/image` while these come; then it goes alone.',
        's',
        minimum=0.001,
        maximum=1.0,
    ),
)
PLANES = (
    Parameter(
        'second.source_to_isocentre',
        0.0,
        "Second plane: X-ray source to isocentre, the same isocentre as `view`'s. Above 0, with "
        '`view.source_to_isocentre`: the angles of both say how the planes stand to each other. 0.0: TF between the '
        'frame_ids of both images says it.',
        'm',
        True,
        0.0,
        2.0,
    ),
    Parameter('second.primary_angle_deg', 90.0, 'The same of the second plane.', 'deg', True, -180.0, 180.0),
    Parameter('second.secondary_angle_deg', 0.0, 'The same.', 'deg', True, -90.0, 90.0),
)
PARAMETERS = INPUT + SEGMENTATION + REGISTRATION + PAIRS + PLANES

MONITOR = (Parameter('record', '', 'Folder to record into: bag, video, report. Empty: nothing is recorded.'),)

BAG = (
    Parameter('bag.image', '', 'Of a bag: the topic of the pictures. Empty: the only one called image.'),
    Parameter('bag.camera_info', '', 'Of a bag: the topic of the camera_info. Empty: the one beside the pictures.'),
    Parameter('bag.initialpose', '', 'Of a bag: the topic of the initial pose. Empty: the one beside the pictures.'),
    Parameter(
        'bag.second_image',
        '',
        "Of a bag: the topic of a second plane's pictures, with its camera_info beside it. Empty: the one called "
        'second/image beside the pictures, if there is one.',
    ),
    Parameter('bag.start', 0.0, 'Of a bag: from where to play.', 's', minimum=0.0, maximum=1e9),
    Parameter('bag.duration', 0.0, 'Of a bag: how much to play; 0.0: to its end.', 's', minimum=0.0, maximum=1e9),
)
DICOM = _of_dicom()
SOURCE = (
    Parameter('source', 'phantom', 'What to play.', choices=KINDS),
    Parameter(
        'path',
        '',
        'Of images: a folder of pictures. Of video: a file (MP4, AVI, GIF, ...). Of dicom: an XA or XRF file, a folder '
        'of them, a DICOMDIR. Of case: a case folder or its case.yaml. Of bag: its folder, or one of its files.',
    ),
    Parameter('loop', False, 'Start again at the end.'),
    Parameter(
        'stepped',
        'auto',
        'Send a frame once the last one was answered; auto: all but the phantom.',
        choices=('auto', 'always', 'never'),
    ),
    Parameter(
        'step_timeout',
        10.0,
        'How long a stepped source waits for an answer before it goes on.',
        's',
        minimum=0.1,
        maximum=600.0,
    ),
    Parameter(
        'start_timeout', 180.0, 'How long to wait for a pipeline before giving up.', 's', minimum=1.0, maximum=86400.0
    ),
    Parameter('wait_for', '', 'Name of a node that must listen too before the first picture is sent, as monitor_node.'),
    Parameter(
        'frame_rate',
        0.0,
        'Of all but cases and bags; 0.0: what the video or DICOM file states, 15 where nothing is stated.',
        'Hz',
        minimum=0.0,
        maximum=120.0,
    ),
    Parameter(
        'frame_id',
        'xray',
        'Frame of the pictures: origin at the X-ray source, z towards the detector. A bag has its own.',
    ),
    Parameter('frames.isocentre', 'isocentre', "TF parent of `frame_id` where the C-arm's pose is known (dicom)."),
    Parameter('frames.table', 'table', 'TF parent of the isocentre where the table moves (dicom).'),
    Parameter(
        'image_transport', 'raw', 'Publish `image` (raw) or `image/compressed` (PNG).', choices=('raw', 'compressed')
    ),
    Parameter('anatomy', 'iliofemoral', 'Of the phantom.', choices=('iliofemoral', 'aortic_root', 'aortic_arch')),
    Parameter('seed', 0, 'Of the phantom: another seed is another patient.', minimum=0, maximum=2**31 - 1),
    Parameter('width', 512, 'Of the phantom.', 'px', minimum=64, maximum=4096),
    Parameter('height', 512, 'Of the phantom.', 'px', minimum=64, maximum=4096),
    Parameter('duration', 20.0, 'Of the phantom: one injection.', 's', minimum=0.5, maximum=3600.0),
    Parameter('mirrored', False, 'Of the phantom: pictures stored as displayed (fx < 0).'),
    Parameter(
        'second.angle_deg',
        0.0,
        "Of the phantom: a second plane, turned so far about the patient's long axis (LAO positive). 0.0: one plane.",
        'deg',
        minimum=-180.0,
        maximum=180.0,
    ),
    Parameter(
        'second.frame_id',
        'xray_second',
        "Frame of the second plane's pictures, a child of `frame_id` where it is known how it stands. A bag has "
        'one of its own.',
    ),
    Parameter(
        'keep_patient_tags',
        False,
        "Of dicom: log the patient's and the study's attributes and publish them in `source/status`. false: they are "
        'never read.',
    ),
    *DICOM,
    *BAG,
    Parameter(
        'bag.rate',
        1.0,
        'Of a bag that is not stepped: how many times as fast as it was recorded.',
        minimum=0.01,
        maximum=100.0,
    ),
    Parameter('bag.clock', False, "Of a bag: publish `/clock`, each picture's stamp before the picture."),
)


class Parameters:
    """The parameters of one node: declared from table rows, kept valid, handed out by name.

    node: an rclpy Node. rows: of this module.
    check: called with {name: value} of all rows before a change is taken; raises ValueError, with the reason, where the
    values do not go together. changed: called with the names after a live change.
    Raises ValueError, with the reason, where a value given at the start is refused.
    """

    def __init__(self, node, rows, check=None, changed=None):
        from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
        from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

        self._rows = {row.name: row for row in rows}
        self._values = {}
        self._result = SetParametersResult
        self._check = check
        self._changed = changed
        for row in rows:
            descriptor = ParameterDescriptor(description=_plain(row), read_only=not row.live)
            if row.choices:
                descriptor.additional_constraints = 'one of ' + ', '.join(row.choices)
            if isinstance(row.default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=row.minimum, to_value=row.maximum)]
            elif type(row.default) is int:
                descriptor.integer_range = [IntegerRange(from_value=row.minimum, to_value=row.maximum)]
            try:
                value = node.declare_parameter(row.name, row.default, descriptor).value
            except InvalidParameterTypeException as error:
                raise ValueError(f'parameter {row.name} must be of type {row.type_name}: {error}') from error
            except InvalidParameterValueException as error:
                raise ValueError(f'parameter {row.name} must be from {row.allowed}: {error}') from error
            refusal = row.refusal(value)
            if refusal:
                raise ValueError(f'parameter {refusal}')
            self._values[row.name] = value
        if check:
            check(dict(self._values))
        node.add_on_set_parameters_callback(self._judge)
        node.add_post_set_parameters_callback(self._take)

    def __getitem__(self, name):
        """Return the value in force of the parameter `name`."""
        return self._values[name]

    def group(self, prefix):
        """Return {name without the prefix: value} of all parameters below `prefix`."""
        return group(self._values, prefix)

    def _judge(self, changes):
        values = {p.name: p.value for p in changes if p.name in self._rows}
        for name, value in values.items():
            refusal = self._rows[name].refusal(value)
            if refusal:
                return self._result(successful=False, reason=refusal)
        try:
            if self._check:
                self._check({**self._values, **values})
        except ValueError as error:
            return self._result(successful=False, reason=str(error))
        return self._result(successful=True)

    def _take(self, changes):
        values = {p.name: p.value for p in changes if p.name in self._rows}
        self._values.update(values)
        if values and self._changed:
            self._changed(set(values))


def from_file(path, rows):
    """Return {name: value} of the rows that a parameter file sets, for whichever node it sets them.

    path: YAML as config/pipeline.yaml. Parameters that are not among the rows are left out. Raises ValueError, naming
    the file, where it cannot be used.
    """
    import yaml  # not above: the name is taken there

    try:
        sections = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        trees = [section['ros__parameters'] for section in sections.values()]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{path}: cannot be read: {error}') from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: must be NODE: {{ros__parameters: {{NAME: VALUE}}}}') from error
    known = {row.name: row for row in rows}
    values = {name: value for tree in trees for name, value in _flat(tree or {}) if name in known}
    for name, value in values.items():
        if refusal := known[name].refusal(value):
            raise ValueError(f'{path}: {refusal}')
    return values


def _flat(tree, prefix=''):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def c_arm_of(view):
    """Return the `CArm` of the parameters `view.*`, or of others alike, without their prefix; ValueError for none."""
    return CArm(
        math.radians(view['primary_angle_deg']),
        math.radians(view['secondary_angle_deg']),
        view['source_to_isocentre'],
        view['source_to_isocentre'],  # the detector's place does not matter to the pose
    )


def second_by_angles(view, second):
    """Return T_second_image (4, 4) of the parameters `view.*` and `second.*`, without their prefix; None: not given."""
    if not (view['source_to_isocentre'] and second['source_to_isocentre']):
        return None
    return c_arm_of(second).T_image_isocentre @ inverse(c_arm_of(view).T_image_isocentre)


def group(values, prefix):
    """Return {name without `prefix` and dot: value} of the values below it."""
    return {name[len(prefix) + 1 :]: value for name, value in values.items() if name.startswith(prefix + '.')}


def markdown():
    """Return README's tables of parameters."""
    tables = (
        ('`pipeline_node`, `segmentation_node`, `registration_node`', PARAMETERS),
        ('`source_node`, besides `model.*`', SOURCE),
        ('`monitor_node`, besides `model.*` and `frames.model`', MONITOR),
    )
    lines = []
    for nodes, rows in tables:
        lines += ['', f'{nodes}:', '', '| parameter | default | allowed | live | |', '|---|---|---|---|---|']
        for row in rows:
            live = 'yes' if row.live else ''
            lines.append(f'| `{row.name}` | `{_yaml(row.default)}` | {row.allowed} | {live} | {row.description} |')
    return '\n'.join(lines) + '\n'


def yaml():
    """Return the annotated parameter file with all defaults, as in config/pipeline.yaml."""
    lines = [
        '# The parameters of pipeline_node, segmentation_node and registration_node with their defaults.',
        '# Made by: python3 -m m2i_ros.ros.parameters --yaml',
        '# Copy it, change what you need, and launch with params_file:=YOUR_FILE. Write floats as 1.0, not 1.',
        '/**:',
        '  ros__parameters:',
    ]
    last = ''
    for row in PARAMETERS:
        prefix, _, name = row.name.rpartition('.')
        if prefix != last:
            lines += [f'    {prefix}:']
        last = prefix
        indent = '      ' if prefix else '    '
        notes = '; '.join(note for note in (row.allowed, 'live' if row.live else '') if note)
        comment = _plain(row) + (f' [{notes}]' if notes else '')
        lines += textwrap.wrap(comment, 118, initial_indent=indent + '# ', subsequent_indent=indent + '# ')
        lines += [f'{indent}{name}: {_yaml(row.default)}']
    return '\n'.join(lines) + '\n'


def _plain(row):
    return row.description.replace('`', '')


def _yaml(value):
    if isinstance(value, str):
        return value or "''"
    return str(value).lower() if isinstance(value, bool) else repr(value)


if __name__ == '__main__':
    print(yaml() if '--yaml' in sys.argv[1:] else markdown(), end='')
