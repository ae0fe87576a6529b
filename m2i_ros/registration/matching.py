"""The matching network: from the model as a pose shows it and the picture's vessels to the pose's residual motion.

Model-to-image matching by a network is the idea of Li et al., ISMR 2021; there the motion is one of the picture's
plane. Here the network says for each cell of the projected model where in the picture it belongs and how surely, and
the cells' depths turn that into a motion in space with its covariance: weighted least squares in six unknowns.

The network looks through a window about the projected model (`Window`): square pixels, fx > 0, the model's middle in
the centre. Lengths in it are in halves of its side. A motion is theta (6,): shift to the right and down in the window,
logarithm of the ratio of depths along the ray through the middle, rotation vector about the middle along the axes of
the image frame (where the picture is mirrored, of its mirror image: fx and x change their signs).
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numba import njit

from m2i_ros.geometry import Camera, apply, inverse, rigid, rotation_matrix, rotation_vector
from m2i_ros.inference import openvino_core
from m2i_ros.model.projection import NEAR, project_vertices

WEIGHTS = Path(__file__).resolve().parent.parent / 'weights' / 'matching' / 'general.onnx'
SIDE = 64  # pixels of the window
CELL = 4  # pixels of a cell
CHANNELS = 6
REACH = 12.0  # pixels of the window within which the network is told the distance to a wall
PRIOR_SIGMA = np.array([1.0, 1.0, 0.15, 0.4, 0.4, 0.4])  # of a motion theta: keeps what the picture cannot tell at zero
GAUSS_NEWTON = 3  # steps
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Window:
    """What the network looks through: a camera about the model's middle under one pose.

    middle: (3,) metres, in the image frame of `camera`. half: the tangent of half of the field of view.
    camera: `SIDE` x `SIDE`, fx = fy > 0. mirrored: whether its image frame is the picture's with x negated.
    """

    middle: np.ndarray
    half: float
    camera: Camera
    mirrored: bool

    @classmethod
    def about(cls, surface, T_image_model, camera):
        """Return the window in which the part of a surface in view fills about two thirds, of a picture of `camera`."""
        points = apply(T_image_model, surface.vertices[:: max(1, len(surface.vertices) // 300)])
        points = points[points[:, 2] > NEAR]
        if not len(points):
            raise ValueError('the model lies behind the X-ray source: check the pose')
        pixels = camera.project(points)
        seen = ((pixels >= 0) & (pixels <= (camera.width - 1, camera.height - 1))).all(axis=1)
        if seen.sum() > 2:
            points, pixels = points[seen], pixels[seen]
        longer = max(camera.width, camera.height)
        middle_px = pixels.mean(axis=0)
        spread = np.percentile(np.abs(pixels - middle_px).max(axis=1), 90)
        half = min(max(1.5 * spread, 0.15 * longer), 0.6 * longer) / camera.fy
        middle = points[:, 2].mean() * camera.ray(middle_px)
        if camera.mirrored:
            middle[0] = -middle[0]
        f = SIDE / 2 / half
        centre = (SIDE - 1) / 2 - f * middle[:2] / middle[2]
        return cls(middle, half, Camera(SIDE, SIDE, f, f, *centre), camera.mirrored)

    def pose(self, T_image_model):
        """Return T_image_model (4, 4) in the window's image frame, or back; a mirrored one is no rigid motion."""
        return _MIRROR @ T_image_model if self.mirrored else T_image_model

    def moved(self, T_image_model, theta):
        """Return the pose (4, 4) moved by theta (6,); both in the picture's own image frame."""
        c = self.middle
        to = c[2] * np.exp(theta[2]) * np.array([*(c[:2] / c[2]), 1.0])
        to[:2] += self.half * c[2] * theta[:2]
        R = rotation_matrix(theta[3:])
        motion = rigid(R, to - R @ c)
        if self.mirrored:
            motion = _MIRROR @ motion @ _MIRROR
        return motion @ T_image_model

    def motion(self, T_from, T_to):
        """Return theta (6,) with `moved(T_from, theta) == T_to`."""
        D = T_to @ inverse(T_from)
        if self.mirrored:
            D = _MIRROR @ D @ _MIRROR
        c, to = self.middle, apply(D, self.middle)
        shift = (to[:2] / c[2] - c[:2] / c[2] * (to[2] / c[2])) / self.half
        return np.concatenate([shift, [np.log(to[2] / c[2])], rotation_vector(D[:3, :3])])


@dataclass(frozen=True)
class Cells:
    """The projected model, `CELL` x `CELL` pixels of the window at a time.

    share: (H, W) float32: how much of a cell the model covers. points: (H, W, 3) float32: the middle of what it covers,
    in halves of the window at the middle's depth, from the middle of the model.
    """

    share: np.ndarray
    points: np.ndarray


def look(view, surface, T_image_model):
    """Return what the network sees of a pose: its input (CHANNELS, SIDE, SIDE) float32, the `Window` and the `Cells`.

    view: `View`. surface: ContourSurface. Channels: the picture's vessels and the signed distance from their walls,
    the valid part of the picture; the projected model, the distance from its outline, and its depth.
    """
    window = Window.about(surface, T_image_model, view.camera)
    fixed, valid = through(window, view)
    uvz = project_vertices(
        surface.vertices, np.ascontiguousarray(window.pose(T_image_model)), *_intrinsics(window.camera)
    )
    count, depth = np.zeros((2, SIDE, SIDE), np.float32)
    _add_depths(uvz, surface.faces, count, depth)
    model = (count > 0).astype(np.float32)
    depth = np.where(count > 0, (depth / np.maximum(count, 1) / window.middle[2] - 1) / window.half, 0)
    channels = (fixed, _signed_distance(fixed > 0.5), valid, model, _signed_distance(count > 0), depth)
    return np.stack(channels).astype(np.float32), window, _cells(window, model, depth)


def _intrinsics(camera):
    return camera.fx, camera.fy, camera.cx, camera.cy


def through(window, view):
    """Return the mask, 0 to 1, and the valid area, 0 or 1, of a view (both (SIDE, SIDE) float32) in a window."""
    # By halves: reduced by any other factor, sides are rounded to whole pixels and the vessels move a little.
    halvings = round(np.log2(view.camera.fy / window.camera.fy))
    if halvings > 0:
        view = view.reduced(0.5**halvings)
    w, c = window.camera, view.camera
    # The same pixels whether mirrored or not: fx and x change their signs together.
    ratio = abs(c.fx) / w.fx, c.fy / w.fy
    to_view = np.array([[ratio[0], 0, c.cx - ratio[0] * w.cx], [0, ratio[1], c.cy - ratio[1] * w.cy]])
    kinds = (view.mask, cv2.INTER_LINEAR), (view.valid.view(np.uint8), cv2.INTER_NEAREST)
    mask, valid = (cv2.warpAffine(p, to_view, (SIDE, SIDE), flags=k | cv2.WARP_INVERSE_MAP) for p, k in kinds)
    return mask * np.float32(1 / 255), valid.astype(np.float32)


def _signed_distance(mask):
    """Return the distance from a mask's border, positive inside, in units of `REACH` and at most 1."""
    mask = mask.astype(np.uint8)
    inside, outside = (cv2.distanceTransform(m, cv2.DIST_L2, cv2.DIST_MASK_3) for m in (mask, 1 - mask))
    return np.clip((inside - outside) / REACH, -1, 1)


@njit(cache=True, nogil=True)
def _add_depths(uvz, faces, count, depth):
    """Add to each pixel of `count` and `depth` (H, W) the faces (F, 3) that cover its centre, and their mean depths."""
    height, width = count.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if uvz[a, 2] <= 1e-3 or uvz[b, 2] <= 1e-3 or uvz[c, 2] <= 1e-3:
            continue
        ax, ay, bx, by, cx, cy = uvz[a, 0], uvz[a, 1], uvz[b, 0], uvz[b, 1], uvz[c, 0], uvz[c, 1]
        x0, x1 = max(0.0, np.ceil(min(ax, bx, cx))), min(width - 1.0, np.floor(max(ax, bx, cx)))
        y0, y1 = max(0.0, np.ceil(min(ay, by, cy))), min(height - 1.0, np.floor(max(ay, by, cy)))
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if x0 > x1 or y0 > y1 or area == 0:
            continue
        z = (uvz[a, 2] + uvz[b, 2] + uvz[c, 2]) / 3
        sign = 1.0 if area > 0 else -1.0
        for y in range(int(y0), int(y1) + 1):
            for x in range(int(x0), int(x1) + 1):
                if (
                    sign * ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) >= 0
                    and sign * ((cx - bx) * (y - by) - (cy - by) * (x - bx)) >= 0
                    and sign * ((ax - cx) * (y - cy) - (ay - cy) * (x - cx)) >= 0
                ):
                    count[y, x] += 1
                    depth[y, x] += z


def _cells(window, model, depth):
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    sums = [_pooled(model * values) for values in (1, columns, rows, depth)]
    share = sums[0] / CELL**2
    u, v, z = (value / np.maximum(sums[0], 1) for value in sums[1:])
    k, (a, b) = window.half, window.middle[:2] / window.middle[2]
    stretch = 1 + k * z
    p = [(pixel - (SIDE - 1) / 2) / (SIDE / 2) for pixel in (u, v)]
    points = np.stack([((a + k * p[0]) * stretch - a) / k, ((b + k * p[1]) * stretch - b) / k, z], axis=-1)
    return Cells(share.astype(np.float32), points.astype(np.float32))


def _pooled(picture):
    n = SIDE // CELL
    return picture.reshape(n, CELL, n, CELL).sum(axis=(1, 3))


def project(points, theta, window):
    """Return where points (N, 3), as of `Cells`, end in the window: (N, 2); and their derivatives (N, 2, 6) by theta.

    Rotations near zero are meant: the derivative by a rotation vector is that of a rotation on top of it.
    """
    k, ray = window.half, np.append(window.middle[:2] / window.middle[2], 1.0)
    arm = points @ rotation_matrix(theta[3:]).T
    moved = arm + np.expm1(theta[2]) / k * ray
    moved[:, :2] += theta[:2]
    depth = np.maximum(1 + k * moved[:, 2], 0.1)
    p = ((ray[:2] + k * moved[:, :2]) / depth[:, None] - ray[:2]) / k
    D = np.zeros((len(points), 2, 3))
    D[:, 0, 0] = D[:, 1, 1] = 1 / depth
    D[:, :, 2] = -(ray[:2] + k * p) / depth[:, None]
    J = np.concatenate([D[:, :, :2], (D @ ray * (np.exp(theta[2]) / k))[..., None], np.cross(arm[:, None], D)], axis=2)
    return p, J


def solve(out, cells, window):
    """Return theta (6,) and its covariance (6, 6): the motion on which the cells agree, by Gauss-Newton.

    out: (5, H, W), the network's answer.
    """
    on = cells.share > 0
    points, weight = cells.points[on].astype(float), np.sqrt(cells.share[on])
    flow, (lxx, lyx, lyy) = out[:2, on].T, out[2:, on] * weight
    target = project(points, np.zeros(6), window)[0] + flow
    theta, W = np.zeros(6), np.diag(PRIOR_SIGMA**-2)
    for _ in range(GAUSS_NEWTON):
        p, J = project(points, theta, window)
        r = p - target
        A = np.concatenate([lxx[:, None] * J[:, 0] + lyx[:, None] * J[:, 1], lyy[:, None] * J[:, 1]])
        H = A.T @ A + W
        theta = theta - np.linalg.solve(
            H, A.T @ np.concatenate([lxx * r[:, 0] + lyx * r[:, 1], lyy * r[:, 1]]) + W @ theta
        )
    return theta, np.linalg.inv(H)


class Matcher:
    """Moves poses to where the picture has the model: `matcher(view, surface, poses)`.

    weights: 'default', the shipped general network, or the path of an ONNX file written by `train matching`.
    Raises ValueError where there is no such file, or no engine to run it.
    """

    def __init__(self, weights='default'):
        path = WEIGHTS if weights == 'default' else Path(weights).expanduser()
        if not path.is_file():
            raise ValueError(
                f'matching weights {str(weights)!r} not found: use default, or an .onnx file of `train matching`'
            )
        self._network = _engine(path)

    def __call__(self, view, surface, poses, times=2):
        """Return poses (N, 4, 4) moved `times` times from poses (N, 4, 4), and the covariances (N, 6, 6) of the last
        motions theta.

        view: `View`; larger than a few windows brings nothing. surface: ContourSurface.
        """
        poses = np.array(poses)
        for _ in range(times):
            seen = [look(view, surface, T) for T in poses]
            answers = self._network(np.stack([image for image, _, _ in seen]))
            solved = [solve(out, cells, window) for out, (_, window, cells) in zip(answers, seen)]
            poses = np.stack([s[1].moved(T, theta) for T, s, (theta, _) in zip(poses, seen, solved)])
        return poses, np.stack([covariance for _, covariance in solved])


def _engine(path):
    """Return the function from (N, CHANNELS, SIDE, SIDE) to (N, 5, SIDE / CELL, SIDE / CELL) float32: OpenVINO, else
    ONNX Runtime, one picture at a time, on one thread."""
    if find_spec('openvino'):
        settings = {'INFERENCE_NUM_THREADS': 1, 'INFERENCE_PRECISION_HINT': 'f32'}
        request = openvino_core().compile_model(path, 'CPU', settings).create_infer_request()

        def run(image):
            request.infer([image], share_inputs=True)
            return request.get_output_tensor().data[0].copy()
    elif find_spec('onnxruntime'):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])

        def run(image):
            return session.run(None, {'image': image})[0][0]
    else:
        raise ValueError('registration.matching needs an inference engine: pip install openvino, or set it to none')
    return lambda images: np.stack([run(image[None]) for image in images])
