"""Endless simulated angiograms with their vessel labels, for training a segmentation network."""

from dataclasses import replace

import numpy as np
import torch

from m2i_ros.geometry import Camera, CArm, apply, rigid
from m2i_ros.simulation import background, xray
from m2i_ros.simulation.anatomy import make_centreline
from m2i_ros.simulation.tubes import draw_tubes
from m2i_ros.simulation.vessels import coaxial_catheter, flow_distance, guide_catheter, open_segments

# Share of the samples, and range of pixel sizes at the isocentre (metres).
KINDS = {
    'coronary': (0.40, (0.18e-3, 0.5e-3)),
    'iliofemoral': (0.30, (0.25e-3, 0.9e-3)),
    'aortic_root': (0.18, (0.25e-3, 0.8e-3)),
    'aortic_arch': (0.12, (0.3e-3, 1.0e-3)),
}
EMPTY = 0.08
SUBTRACTED = 0.25


class TrainingSamples:
    """An endless iterator of batches (image, mask), both (B, 1, S, S) float32 torch tensors in [0, 1].

    The mask is 1 on the lumen that can be seen: where contrast stands out of the noise, up to its edge at half
    contrast. Catheters, leads and bones are not vessel. About 8% of the pictures show no contrast at all.

    size: S, pixels. seed: the same seed gives the same samples; give each worker its own.
    """

    def __init__(self, size=256, seed=0, batch_size=8, device='cpu'):
        self.size, self.batch_size, self.device = size, batch_size, device
        self._rng = np.random.default_rng(seed)
        self._trees = {kind: [] for kind in KINDS}
        self._noise = torch.Generator(device).manual_seed(int(self._rng.integers(2**62)))

    def __iter__(self):
        return self

    def __next__(self):
        samples = [self._sample() for _ in range(self.batch_size)]
        image, mask = self._develop(samples)
        return image[:, None], mask[:, None]

    def _sample(self):
        """Draw one scene: path lengths, label and how it is to be shown."""
        rng, shape = self._rng, (self.size, self.size)
        kind = rng.choice(list(KINDS), p=[share for share, _ in KINDS.values()])
        low, high = KINDS[kind][1]
        spacing = np.exp(rng.uniform(np.log(low), np.log(high)))
        place = background.abdomen if kind == 'iliofemoral' else background.chest
        centre = rng.normal(0, 0.05, 2) + ((0, 0.02) if kind == 'iliofemoral' else (0, 0))
        scene = place(rng, shape, spacing, centre)
        background.devices(rng, shape, spacing, scene, rng.choice([0.0, 1.0, 2.0], p=[0.3, 0.5, 0.2]))
        subtracted = rng.uniform() < SUBTRACTED
        settings = _draw_settings(rng, subtracted)
        line = xray.exposure_control(xray.attenuation(scene.tissue, scene.bone, scene.metal))
        vessel, lumen = np.zeros(shape, np.float32), None
        if rng.uniform() > EMPTY:
            vessel, lumen, metal = _draw_vessels(rng, kind, self._tree(kind), spacing, shape, settings)
            line += np.float32(xray.STEEL) * metal
        return {
            'line': line,
            'vessel': vessel,
            'lumen': lumen,
            'inside': _collimator(rng, shape),
            'border': rng.uniform(0, 0.12),
            'subtracted': subtracted,
            'shift': rng.normal(0, 0.35, 2) if rng.uniform() < 0.7 else rng.normal(0, 1.5, 2),
            'inverted': rng.uniform() < 0.12,
            'settings': settings,
        }

    def _tree(self, kind):
        """Return one of the trees at hand, which are replaced one by one: making a tree costs more than drawing it."""
        trees = self._trees[kind]
        if len(trees) < 32:
            trees.append(make_centreline(kind, self._rng))
            return trees[-1]
        at = self._rng.integers(len(trees))
        if self._rng.uniform() < 0.2:
            trees[at] = make_centreline(kind, self._rng)
        return trees[at]

    def _develop(self, samples):
        """Turn drawn scenes into pictures and labels."""
        device = self.device

        def stack(name):
            return torch.from_numpy(np.stack([s[name] for s in samples])).to(device)

        def column(values):
            return torch.tensor(np.array(values), dtype=torch.float32, device=device).reshape(-1, 1, 1)

        def pair(name):
            return tuple(column([s['settings'][name][i] for s in samples]) for i in (0, 1))

        names = samples[0]['settings'].keys() - {'window', 'latitude', 'grey', 'iodine_mg_ml'}
        settings = xray.XRaySettings(
            **{name: column([s['settings'][name] for s in samples]) for name in names},
            window=pair('window'),
            latitude=pair('latitude'),
            grey=pair('grey'),
        )
        line, vessel, inside = (stack(name) for name in ('line', 'vessel', 'inside'))

        def noise():
            return torch.randn(line.shape, generator=self._noise, device=device)

        clean = xray.transmit(line + vessel, settings)
        empty = xray.transmit(line, settings)
        exposure = xray.expose(clean, settings, noise())
        chosen = [i for i, s in enumerate(samples) if s['subtracted']]
        if chosen:
            # The mask picture of a subtraction: no contrast, taken earlier, so a little elsewhere.
            theta = torch.eye(2, 3, device=device).repeat(len(chosen), 1, 1)
            theta[:, :, 2] = torch.tensor(
                np.array([samples[i]['shift'] for i in chosen]), dtype=torch.float32, device=device
            ) * (2 / self.size)
            at = torch.nn.functional.affine_grid(theta, (len(chosen), 1, self.size, self.size), align_corners=False)
            earlier = empty.clone()
            earlier[chosen] = torch.nn.functional.grid_sample(
                empty[chosen][:, None], at, padding_mode='border', align_corners=False
            )[:, 0]
            mask = xray.expose(earlier, settings, noise())[chosen]
            exposure[chosen] = exposure[chosen] / mask
            clean[chosen] = clean[chosen] / earlier[chosen]
            empty[chosen] = empty[chosen] / earlier[chosen]
        toned = xray.tone(exposure, settings)
        ends = xray.limits(toned, settings, inside)
        image = xray.display(toned, ends, settings)
        clean = xray.display(xray.tone(clean, settings), ends, settings)
        contrast = (xray.display(xray.tone(empty, settings), ends, settings) - clean).cpu().numpy()
        grain = xray.blur((image - clean) ** 2, 4.0).sqrt().cpu().numpy()
        label = np.zeros(line.shape, np.float32)
        for i, sample in enumerate(samples):
            if sample['lumen'] is not None:
                label[i] = _visible_label(*sample['lumen'], contrast[i], grain[i])

        inverted = column([s['inverted'] for s in samples]) > 0
        image = torch.where(inverted, 1 - image, image)
        image = torch.where(inside, image, column([s['border'] for s in samples]))
        return image, (torch.from_numpy(label).to(device) * inside).round()


def _draw_settings(rng, subtracted):
    # Systems differ in how much of the grey scale a picture fills; subtracted ones often lie flat about its middle.
    flat = rng.uniform() < (0.7 if subtracted else 0.35)
    most = (2.5 if subtracted else 0.8) if flat else 0.1
    subtle = rng.uniform() < 0.3
    return {
        'iodine_mg_ml': rng.uniform(60, 300),
        'photons': np.exp(rng.uniform(np.log(3000), np.log(120000))),
        'scatter': rng.uniform(0.1, 0.55),
        'scatter_blur': rng.uniform(12, 40),
        'blur': rng.uniform(0.5, 1.5),
        'electronic_noise': rng.uniform(0, 0.003),
        'vignetting': rng.uniform(0, 0.3),
        'tone': rng.uniform(0, 1),
        'edge_gain': 0.0 if subtle else rng.uniform(0, 1.5),
        'edge_blur': rng.uniform(1, 5),
        'smoothing': rng.choice([0.0, rng.uniform(0.3, 1.2)], p=[0.35, 0.65]),
        'window': (rng.uniform(0.0, 0.02), 1 - rng.choice([rng.uniform(0.005, 0.05), rng.uniform(0.02, 0.3)])),
        'latitude': tuple(rng.uniform(0, most, 2)),
        'grey': (rng.uniform(0.0, 0.3), rng.uniform(0.65, 1.0)),
    }


def _draw_vessels(rng, kind, tree, spacing, shape, settings):
    """Return what the contrast takes away (H, W), the lumen to label (pixels, radii, segments), a catheter's metal."""
    tree = replace(tree, points=tree.points * rng.normal(1.0, 0.06, 3), radii=tree.radii * rng.uniform(0.85, 1.2))
    points, radii = tree.points, tree.radii
    arm = CArm(
        np.deg2rad(rng.uniform(-60, 60) if kind != 'iliofemoral' else rng.normal(0, 22)),
        np.deg2rad(rng.uniform(-35, 35) if kind != 'iliofemoral' else rng.normal(0, 10)),
    )
    magnification = arm.source_to_detector / arm.source_to_isocentre
    camera = Camera.from_detector(
        shape[1], shape[0], arm.source_to_detector, spacing * magnification, bool(rng.integers(2))
    )
    share = rng.uniform()
    focus = share * points[rng.integers(len(points))] + (1 - share) * points.mean(axis=0)
    focus += rng.normal(0, 0.12 * shape[0] * spacing, 3)
    T_image_model = arm.T_image_isocentre @ rigid(rng.normal(0, 0.08, 3)) @ rigid(translation=-focus)
    points_image = apply(T_image_model, points)
    pixels = camera.project(points_image)
    radii_px = radii * camera.fy / points_image[:, 2]

    concentration = np.ones(len(points))
    if rng.uniform() < 0.35:
        # The bolus on its way: a front, a tail, blurred by mixing.
        travel = flow_distance(tree)
        longest = travel.max()
        front, length, mixing = (
            rng.uniform(0.25, 1.4) * longest,
            rng.uniform(0.3, 1.5) * longest,
            rng.uniform(0.02, 0.15) * longest,
        )
        concentration = _sigmoid((front - travel) / mixing) * (1 - _sigmoid((front - length - travel) / mixing))
    if rng.uniform() < 0.3:
        concentration = concentration * rng.uniform(0.15, 1.0, tree.branch.max() + 1)[tree.branch]
    segments, lengths = open_segments(tree)
    iodine = settings['iodine_mg_ml'] * xray.IODINE_PER_MG_ML
    if kind in ('aortic_root', 'aortic_arch'):
        iodine *= rng.uniform(0.1, 0.5)
    elif kind == 'iliofemoral':
        iodine *= rng.uniform(0.2, 0.9)
    mid = concentration[segments].mean(axis=1)
    vessel, _ = draw_tubes(pixels, radii_px, lengths * mid * iodine, segments, shape)

    metal = np.zeros(shape, np.float32)
    if rng.uniform() < (0.85 if kind == 'coronary' else 0.5):
        axis = _catheter(rng, kind, tree)
        steel, inner = _draw_catheter(rng, apply(T_image_model, axis), camera)
        metal += steel
        # Contrast leaves a guide catheter at its tip, so it is full; it is not vessel.
        vessel += inner * iodine * rng.choice([rng.uniform(0, 0.4), rng.uniform(0.5, 1.0)])
    # People draw the lumen's edge where the contrast is half, which the blur widens where the vessel is thin.
    drawn = np.sqrt((radii_px - np.minimum(0.134 * radii_px, 0.7)) ** 2 + (0.8 * settings['blur']) ** 2)
    return vessel, (pixels, drawn, segments), metal


def _catheter(rng, kind, tree):
    """Return the axis (n, 3) of the catheter that brings the contrast, or of another device in the lumen."""
    if kind == 'coronary':
        return guide_catheter(tree, rng.normal(0, 0.03, 3))
    ends = np.flatnonzero(np.bincount(tree.edges.ravel()) == 1)
    return coaxial_catheter(
        tree, int(rng.integers(0, np.count_nonzero(tree.branch == 0))), int(rng.choice(ends)), rng.uniform(0, 6)
    )


def _draw_catheter(rng, axis_image, camera):
    """Return path lengths (H, W) through the catheter's metal and through its inner lumen."""
    pixels = camera.project(axis_image)
    outer = rng.uniform(0.65, 1.15) * 1e-3 * camera.fy / axis_image[:, 2]
    segments = np.stack([np.arange(len(pixels) - 1), np.arange(1, len(pixels))], axis=1)
    shape = (camera.height, camera.width)
    steps = np.linalg.norm(np.diff(axis_image, axis=0), axis=1)
    steel, _ = draw_tubes(pixels, outer, steps * rng.uniform(0.01, 0.12), segments, shape)
    inner, _ = draw_tubes(pixels, 0.75 * outer, steps, segments, shape)
    return steel, inner


def _visible_label(pixels, radii_px, segments, contrast, grain):
    """Return the label (H, W) of the lumen where it can be seen.

    contrast: (H, W) grey that the contrast takes away; grain: (H, W) standard deviation of the noise, grey. A vessel is
    seen where its contrast at the axis, summed over the patch an eye takes in, stands out of the noise's sum.
    """
    shape = contrast.shape
    at = np.rint(pixels)
    on = ((at >= 0) & (at < shape[::-1])).all(axis=1)
    at = np.where(on[:, None], at, 0).astype(int)
    patch = 2 * radii_px * np.clip(6 * radii_px, 6, 20)
    depth = contrast[at[:, 1], at[:, 0]]
    visible = ~on | ((depth > 0.03) & (depth * np.sqrt(patch) > 6 * grain[at[:, 1], at[:, 0]]))
    # Gaps and specks of a few points are chance, not sight.
    share = np.convolve(visible.astype(float), np.full(11, 1 / 11), mode='same')
    seen = segments[(share[segments] > 0.5).all(axis=1)]
    return draw_tubes(pixels, radii_px, np.zeros(len(seen)), seen, shape)[1]


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def _collimator(rng, shape):
    """Return (H, W) bool, True inside a round or rectangular opening, or everywhere."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    draw = rng.uniform()
    if draw < 0.45:
        return np.ones(shape, bool)
    if draw < 0.8:
        radius = rng.uniform(0.45, 1.0) * shape[0]
        reach = max(0.0, radius - 0.35 * shape[0])
        angle = rng.uniform(0, 2 * np.pi)
        cx, cy = np.array(shape[::-1]) / 2 + rng.uniform(0, reach) * np.array([np.cos(angle), np.sin(angle)])
        return np.hypot(x - cx, y - cy) < radius
    left, top = rng.uniform(0, 0.18, 2) * shape[0]
    right, bottom = shape[0] * (1 - rng.uniform(0, 0.18, 2))
    tilt = rng.normal(0, 0.02)
    return (x + tilt * y > left) & (x + tilt * y < right) & (y > top) & (y < bottom)
