"""A simulated patient under fluoroscopy: injection sequences with the exact pose and mask of every frame."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from m2i_ros.geometry import Camera, CArm, apply, perturb, rigid
from m2i_ros.simulation import background, xray
from m2i_ros.simulation.path_length import path_length
from m2i_ros.simulation.surface import make_anatomy
from m2i_ros.simulation.tubes import draw_tubes
from m2i_ros.simulation.vessels import coaxial_catheter, flow_distance, guide_catheter, open_segments
from m2i_ros.simulation.visibility import grain, seen_segments, unevenness

# The concentration of contrast is smooth: it is mixed at a part of the resolution.
_COARSE = 4


@dataclass(frozen=True)
class _Habit:
    """How an anatomy lives: metres, seconds."""

    breathing: tuple  # LPS displacement from full expiration to full inspiration
    beating: tuple  # LPS displacement from diastole to systole
    flow: float  # speed of the contrast's front
    iodine_mg_ml: float  # in the vessel, as the blood dilutes it
    scene: object


_HABITS = {
    'iliofemoral': _Habit((0.0, -0.0008, -0.003), (0.0, 0.0, 0.0), 0.25, 150.0, background.abdomen),
    'aortic_root': _Habit((0.0005, -0.0015, -0.006), (-0.001, -0.002, -0.004), 0.2, 80.0, background.chest),
    'aortic_arch': _Habit((0.0003, -0.0008, -0.003), (-0.0008, -0.0015, -0.002), 0.3, 110.0, background.chest),
    'coronary': _Habit((0.0005, -0.0015, -0.006), (-0.002, -0.003, -0.005), 0.12, 280.0, background.chest),
}


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame and its truth.

    image: (H, W) uint8, vessels dark. stamp: seconds from the first frame. T_image_model: (4, 4), metres, exact.
    mask: (H, W) uint8, 0 or 255: the lumen where contrast shows it: takes away more than 8% of the rays, in vessels
    that stand out of noise and background (`seen_segments`), collimator applied.
    contrast: mean concentration along the centreline, 0 to 1. c_arm: how it stands. table: (3,) how far it has moved
    since the first frame, metres along the isocentre's axes.
    """

    image: np.ndarray
    stamp: float
    T_image_model: np.ndarray
    mask: np.ndarray
    contrast: float
    c_arm: CArm
    table: np.ndarray


class Phantom:
    """A sequence of `SimulatedFrame`, each computed when asked for; the same arguments give the same frames.

    anatomy: one of ANATOMIES; seed: which patient, which noise.
    width, height: pixels. detector: the picture's longer side at the detector, metres.
    frame_rate: 1/s. duration: seconds. injections: when contrast enters the tree, seconds; each takes `plateau` seconds
    and then washes out.
    c_arm: angles and distances; the vessels' middle is placed at the isocentre. The background does not turn with it;
    breath moves its soft tissue as it moves the vessels, and its bones not.
    mirrored: pictures as stored for display, facing the patient: the same pictures flipped, and `camera.fx` < 0.
    settings: X-ray settings; None for fluoroscopy at a dose that fits the anatomy.
    collimator: radius of a round opening as a share of half the longer side; above 1.42 it is out of sight.
    plane: of an X-ray system with several: the same patient at the same moments, before another background and with
    other noise. Where it stands, `c_arm` says.
    breath, beat: seconds that a breath and, near the heart, its beat take.
    turn: radians per second by which the C-arm's angles change. slide: metres per second of the table, along the
    isocentre's axes, with the patient on it. The background follows neither.
    site: centreline point at which contrast enters: what lies downstream is filled, and nothing else. 0: the root.

    model: the `VesselModel`, in its own LPS coordinates. camera: of the pictures. arrival: (N,) seconds that contrast
    takes to each centreline point, infinite where it does not come.
    initial_pose: T_image_model of the first frame, put wrong by 10 mm in a random direction in the picture's plane,
    20 mm in depth and 5 degrees about a random axis, as a user might place it.
    """

    def __init__(
        self,
        anatomy='iliofemoral',
        seed=0,
        width=512,
        height=512,
        frame_rate=15.0,
        duration=20.0,
        mirrored=False,
        c_arm=None,
        detector=0.30,
        injections=(1.0, 11.0),
        plateau=5.0,
        settings=None,
        collimator=1.5,
        plane=0,
        breath=4.0,
        beat=0.9,
        turn=(0.0, 0.0),
        slide=(0.0, 0.0, 0.0),
        site=0,
    ):
        self.model = make_anatomy(anatomy, seed)
        self.c_arm = c_arm or CArm()
        self.frame_rate, self.injections, self.plateau = frame_rate, injections, plateau
        self._count = round(duration * frame_rate)
        self._seed, self._habit, self._mirrored, self._plane = seed, _HABITS[anatomy], mirrored, plane
        self._breath, self._beat = breath, beat
        self._turn, self._slide = turn, np.array(slide, dtype=float)
        self.moves = bool(np.any(turn) or np.any(slide))
        spacing = detector / max(width, height)
        # Pictures are made as the source sees them, and flipped at the end.
        self._own_camera = Camera.from_detector(width, height, self.c_arm.source_to_detector, spacing)
        self.camera = self._own_camera.flipped() if mirrored else self._own_camera
        self._settings = settings or self.usual_settings(anatomy)
        self._T_isocentre_model = rigid(translation=-_middle(anatomy, self.model.centreline))
        self.arrival = flow_distance(self.model.centreline, site) / self._habit.flow
        self._segments = open_segments(self.model.centreline)[0]

        rng = np.random.default_rng((seed, 1))
        at_isocentre = spacing * self.c_arm.source_to_isocentre / self.c_arm.source_to_detector
        scene = self._habit.scene(rng, (height, width), at_isocentre, (0.0, 0.02))
        self._phase = rng.uniform(0, 2 * np.pi, 2)
        if plane:
            rng = np.random.default_rng((seed, 1, plane))
            scene = self._habit.scene(rng, (height, width), at_isocentre, (0.0, 0.02))
        tissue, bone, metal = (torch.from_numpy(part)[None] for part in (scene.tissue, scene.bone, scene.metal))
        nothing = torch.zeros_like(bone)
        # The signal behind all is the product of what tissue lets through, which moves, and what the rest does.
        rays = xray.beams(tissue, bone, metal, self._settings.tube_kv)
        self._tissue = xray.beams(tissue, nothing, nothing, self._settings.tube_kv)
        self._rest = rays / self._tissue.clamp(min=1e-30)
        line = xray.line_integral(rays)
        self._exposure = xray.exposure_control(line)
        y, x = np.mgrid[:height, :width]
        self._inside = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2) < collimator * max(width, height) / 2
        empty = xray.transmit(line + self._exposure, self._settings)
        toned = xray.tone(empty, self._settings)
        # The window is set once, so that the picture does not pump with the injection.
        self._ends = xray.limits(toned, self._settings, torch.from_numpy(self._inside)[None])
        # What a vessel must stand out of to be seen.
        self._empty, bare = xray.curve(empty, self._settings), self._display(toned)
        noisy = self._display(xray.tone(self._exposed(empty, self._count), self._settings))
        self._grain, self._clutter = (part[0].numpy() for part in (grain(noisy, bare), unevenness(bare)))
        self._catheter = _catheter(anatomy, self.model.centreline)

        T = self.pose(0)
        turn, slide = rng.normal(size=3), rng.uniform(0, 2 * np.pi)
        shift = (0.01 * np.cos(slide), 0.01 * np.sin(slide), 0.02 * rng.choice([-1, 1]))
        xi = (*shift, *(np.deg2rad(5) * turn / np.linalg.norm(turn)))
        self.initial_pose = perturb(T, xi, apply(T, self.model.centroid))

    @staticmethod
    def usual_settings(anatomy):
        """Return the `XRaySettings` of fluoroscopy at a dose and a contrast that fit the anatomy."""
        # The latitude leaves room for the contrast.
        return xray.XRaySettings(iodine_mg_ml=_HABITS[anatomy].iodine_mg_ml, photons=8000.0, latitude=(0.35, 0.0))

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        index = int(index)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f'frame {index} of {len(self)}')
        T = self.pose(index)
        concentration = self._concentration(index / self.frame_rate)
        iodine, metal = self._moving(T, concentration)
        iodine *= np.float32(self._settings.iodine_mg_ml)
        shift = self._tissue_shift(index / self.frame_rate)
        image, signal = self._picture(iodine, metal, shift, index)
        mask = np.where(self._seen(iodine, signal, shift, T) & self._inside, np.uint8(255), np.uint8(0))
        if self._mirrored:
            image, mask = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
        stamp = index / self.frame_rate
        c_arm, table = self._system(stamp)
        return SimulatedFrame(image, stamp, T, mask, float(concentration.mean()), c_arm, table)

    def _system(self, t):
        """Return how the C-arm stands and how far the table (3,) has moved."""
        primary, secondary = (
            self.c_arm.primary_angle + self._turn[0] * t,
            self.c_arm.secondary_angle + self._turn[1] * t,
        )
        return replace(self.c_arm, primary_angle=primary, secondary_angle=secondary), self._slide * t

    def pose(self, index):
        """Return T_image_model (4, 4) of a frame: breathing and, near the heart, its beat."""
        t = index / self.frame_rate
        beat = (0.5 - 0.5 * np.cos(2 * np.pi * t / self._beat + self._phase[1])) ** 2
        moved = self._breathed(t) + beat * np.array(self._habit.beating)
        c_arm, table = self._system(t)
        return c_arm.T_image_isocentre @ rigid(translation=moved + table) @ self._T_isocentre_model

    def _breathed(self, t):
        """Return how far breath has moved the vessels (3,), metres along the isocentre's axes."""
        return (0.5 - 0.5 * np.cos(2 * np.pi * t / self._breath + self._phase[0])) * np.array(self._habit.breathing)

    def _tissue_shift(self, t):
        """Return how far breath has moved the tissue in the picture (2,), pixels right and down."""
        moved = self.c_arm.T_image_isocentre[:2, :3] @ self._breathed(t)
        return moved * self._own_camera.fx / self.c_arm.source_to_isocentre

    def _concentration(self, t):
        """Return the contrast (N,) at the centreline's points, 0 to 1: a front, a plateau, a wash-out."""
        out = np.zeros(len(self.arrival))
        for start in self.injections:
            since = t - start - self.arrival
            front = 1 / (1 + np.exp(np.clip(-(since - 0.25) / 0.08, -50, 50)))
            out += front * np.exp(-np.maximum(0, since - self.plateau) / 0.7)
        return np.minimum(out, 1)

    def _moving(self, T, concentration):
        """Return path lengths (H, W), metres, through undiluted contrast and through the catheter's metal."""
        camera, tree = self._own_camera, self.model.centreline
        iodine = np.zeros((camera.height, camera.width), np.float32)
        if concentration.max() > 1e-3:
            iodine = path_length(apply(T, self.model.vertices), self.model.faces, camera)
            if concentration.min() < 0.999:
                iodine *= self._mix(apply(T, tree.points), concentration)
        points = apply(T, self._catheter)
        pixels = camera.project(points)
        segments = np.stack([np.arange(len(points) - 1), np.arange(1, len(points))], axis=1)
        # 5 French, a braid that weighs as 0.12 mm of steel.
        steps = np.linalg.norm(np.diff(pixels, axis=0), axis=1)
        radius = 0.83e-3 * camera.fy / points[:, 2]
        metal, _ = draw_tubes(pixels, radius, steps * 1.2e-4 / (2 * radius[1:]), segments, iodine.shape)
        return iodine, metal

    def _mix(self, points_image, concentration):
        """Return the mean concentration (H, W) along each ray, from tubes about the centreline."""
        tree, camera = self.model.centreline, self._own_camera.scaled(1 / _COARSE)
        shape = (camera.height, camera.width)
        a, b = tree.edges.T
        segments = tree.edges[tree.branch[a] == tree.branch[b]]
        lengths = np.linalg.norm(points_image[segments[:, 0]] - points_image[segments[:, 1]], axis=1)
        pixels = camera.project(points_image)
        # A little wider than the lumen, so that no ray through it misses.
        radii = 1.15 * tree.radii * camera.fy / points_image[:, 2] + 1.5
        whole, _ = draw_tubes(pixels, radii, lengths, segments, shape)
        filled, _ = draw_tubes(pixels, radii, lengths * concentration[segments].mean(axis=1), segments, shape)
        size = self._own_camera.width, self._own_camera.height
        return cv2.resize(filled / np.maximum(whole, 1e-9), size, interpolation=cv2.INTER_LINEAR)

    def _picture(self, iodine, metal, shift, index):
        """Return the (H, W) uint8 picture of the background, its tissue moved by `shift` pixels, with iodine (m mg/ml)
        and metal (m) before it, and the signal (1, H, W) without noise."""
        settings = self._settings
        moving = (torch.from_numpy(part)[None] for part in (iodine, metal))
        rays = self._rest * torch.from_numpy(_shifted(self._tissue[:, 0].numpy(), shift))[:, None]
        signal = xray.transmit(xray.line_integral(rays, *moving) + self._exposure, settings)
        grey = self._display(xray.tone(self._exposed(signal, index), settings))[0]
        image = np.where(self._inside, (grey * 255).round().to(torch.uint8).numpy(), np.uint8(0))
        return image, signal

    def _exposed(self, signal, index):
        number = self._seed * 1_000_003 + index + 1_000_000_007 * self._plane
        noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(number))
        return xray.expose(signal, self._settings, noise)

    def _display(self, toned):
        return xray.display(toned, self._ends, self._settings)

    def _seen(self, iodine, signal, shift, T):
        """Return the lumen (H, W) bool that can be seen. signal: (1, H, W) of the picture, without noise."""
        bare = self._empty.roll(tuple(np.rint(shift[::-1]).astype(int)), (1, 2))
        filled = xray.shows_contrast(iodine)
        if not filled.any():
            return filled
        tree, camera = self.model.centreline, self._own_camera
        points = apply(T, tree.points)
        pixels, radii = camera.project(points), tree.radii * camera.fy / points[:, 2]

        def axis_values(*at):
            shown = self._display(xray.curve(signal[0][at][None, None], self._settings))
            lost = self._display(bare[0][at][None, None]) - shown
            return lost[0, 0].numpy(), self._grain[at], self._clutter[at]

        segments = seen_segments(pixels, radii, self._segments, filled.shape, axis_values)
        # A little wider than the lumen: which vessels are seen is asked, not where their walls are.
        coarse = tuple(-(-side // _COARSE) for side in filled.shape)
        near = draw_tubes(pixels / _COARSE, 1.3 * radii / _COARSE + 1, np.zeros(len(segments)), segments, coarse)[1]
        near = near.repeat(_COARSE, axis=0).repeat(_COARSE, axis=1)[: filled.shape[0], : filled.shape[1]]
        return filled & (near > 0)


def _shifted(planes, shift):
    """Return planes (N, H, W) float32 moved by shift (2,) pixels to the right and down; they are mirrored at their
    borders."""
    matrix, size = np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), planes.shape[:0:-1]
    return np.stack([cv2.warpAffine(plane, matrix, size, borderMode=cv2.BORDER_REFLECT) for plane in planes])


def _middle(anatomy, tree):
    """Return the model point (3,) that is placed at the isocentre."""
    if anatomy == 'iliofemoral':
        # Below the bifurcation, so that the iliac arteries down to the femoral heads are in view.
        bifurcation = tree.points[np.flatnonzero(tree.branch == 0)[-1]]
        return bifurcation + (0.0, 0.0, -0.075)
    if anatomy == 'aortic_arch':
        # The arch with its branches: the descending aorta goes on out of view.
        return tree.points[tree.points[tree.branch == 0].argmax(axis=0)[2]] + (0.0, 0.0, -0.01)
    return (tree.points.min(axis=0) + tree.points.max(axis=0)) / 2


def _catheter(anatomy, tree):
    """Return the axis (n, 3) of a catheter in model coordinates, tip first."""
    if anatomy == 'coronary':
        return guide_catheter(tree)
    if anatomy == 'iliofemoral':
        # From the right femoral artery into the aorta.
        tip = len(tree.points[tree.branch == 0]) // 3
        entry = int(np.lexsort((tree.points[:, 0], tree.points[:, 2].round(2)))[0])
    elif anatomy == 'aortic_arch':
        # From the descending into the ascending aorta.
        tip, entry = 8, int(np.flatnonzero(tree.branch == 1)[-1])
    else:
        # From the arch into the root.
        tip, entry = int(np.flatnonzero(tree.branch == 1)[2]), int(np.flatnonzero(tree.branch == 2)[-1])
    return coaxial_catheter(tree, tip, entry, 0.0)
