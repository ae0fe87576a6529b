"""Endless simulated angiograms with their vessel labels, for training a segmentation network."""

from dataclasses import replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from m2i_ros.geometry import Camera, CArm, apply, rigid
from m2i_ros.simulation import background, contrast, devices, screen, xray
from m2i_ros.simulation.anatomy import ANATOMIES, make_centreline
from m2i_ros.simulation.ct_scene import ct_scene, own_vessels
from m2i_ros.simulation.patients import training_stream
from m2i_ros.simulation.tubes import draw_tubes
from m2i_ros.simulation.vessels import coaxial_catheter, flow_distance, guide_catheter, open_segments
from m2i_ros.simulation.visibility import drawn_coronary, grain, seen_lumen, seen_segments, unevenness

# For each anatomy: its weight among the samples; its range of pixel sizes at the isocentre, metres; where it lies;
# how its contrast is diluted (range, as a share); spread of the C-arm's angles, degrees.
_HABITS = {
    'coronary': (0.42, (0.18e-3, 0.42e-3), background.chest, (0.7, 1.0), (35, 20)),
    'iliofemoral': (0.30, (0.22e-3, 0.9e-3), background.abdomen, (0.06, 0.9), (22, 10)),
    'aortic_root': (0.16, (0.22e-3, 0.7e-3), background.chest, (0.04, 0.9), (25, 15)),
    'aortic_arch': (0.12, (0.25e-3, 0.8e-3), background.chest, (0.04, 0.9), (30, 12)),
}
KINDS = {kind: _HABITS[kind] for kind in _HABITS if kind in ANATOMIES}
# Share of the pictures without contrast; more of those drawn through a patient's CT, whose anatomy looks more like
# vessels.
EMPTY, EMPTY_CT = 0.25, 0.35
# Share of the pictures that show no body round the vessels (`background.strange`), of vessels that show no depth but a
# silhouette, and of pictures without noise: what other simulations and plain projections of a model look like.
STRANGE, SILHOUETTE, NOISELESS = 0.15, 0.06, 0.05
SUBTRACTED = 0.33
# Share of the pictures, and of the subtracted ones, that somebody has windowed so that their dark parts are black, and
# up to which share of the picture each: wide vessels as a whole then have one grey value, but so have heart and liver
# where nothing is subtracted.
BLACK, BLACK_SUBTRACTED = (0.1, 0.25), (0.45, 0.4)
# Share of the pictures of at most so many pixels a side, but for coronary ones, that show what one of twice the side
# does, as the segmenter looks at single pictures, too; and the largest pixel, metres: a detector of 0.4 m.
REDUCED, SMALL, LARGEST_PIXEL = 0.5, 256, 1.2e-3
# Air kerma a frame at the detector, Gy: fluoroscopy takes some 20 nGy, which its recursive filter makes look like 60;
# cine 200 nGy, subtraction 1 uGy and more (Bushberg et al., The Essential Physics of Medical Imaging, 3rd ed., ch. 9).
DOSE = (60e-9, 1e-6)
# Vessels thinner than this are visible as a haze that nobody draws, metres of radius.
LEAST_RADIUS = 0.25e-3
# Share of the pictures of a CT in which its own vessels are filled, not others drawn before it; and their pixels' size
# at the isocentre, metres.
OWN, OWN_PIXELS = 0.6, (0.22e-3, 0.9e-3)
# Pixels of radius up to which a vessel is drawn as a thin one, and from which as a wide one.
THIN, WIDE = 3.0, 8.0


class TrainingSamples:
    """An endless iterator of batches (image, mask, reference), (B, 1, S, S) float32 torch tensors in [0, 1].

    The mask is 1 on the lumen that can be seen: where contrast stands out of the noise, up to the wall, in thin vessels
    up to half contrast, and in coronary arteries up to two thirds of it, as people draw them. Catheters, leads and
    bones are not vessel. A quarter of the pictures shows no contrast, of those through a CT a third. The reference is
    the scene some time before: breath has moved the patient and somebody the devices, other noise, and no contrast
    but, at times, a part of it.

    size: S, pixels. seed: the same seed gives the same samples; give each worker its own. bright: share of the
    pictures that show contrast bright. cts: tuple of `CTPatient`; ct_share: share of the pictures drawn through them.
    """

    def __init__(self, size=256, seed=0, batch_size=8, device='cpu', bright=0.12, cts=(), ct_share=0.0):
        self.size, self.batch_size, self.device, self.bright = size, batch_size, device, bright
        self._cts, self._ct_share = cts, ct_share if cts else 0.0
        self._rng = np.random.default_rng(training_stream(seed))
        self._trees = {kind: [] for kind in KINDS}
        self._noise = torch.Generator(device).manual_seed(int(self._rng.integers(2**62)))

    def __iter__(self):
        return self

    def __next__(self):
        samples = [self._sample() for _ in range(self.batch_size)]
        return tuple(pictures[:, None] for pictures in self._develop(samples))

    def _sample(self):
        """Draw one scene: path lengths, label and how it is to be shown."""
        rng, shape = self._rng, (self.size, self.size)
        weights = np.array([habit[0] for habit in KINDS.values()])
        kind = rng.choice(list(KINDS), p=weights / weights.sum())
        _, pixels, place, _, _ = KINDS[kind]
        patient = own = None
        if self._ct_share and rng.uniform() < self._ct_share:
            patient, own = self._cts[rng.integers(len(self._cts))], rng.uniform() < OWN
            pixels = OWN_PIXELS if own else pixels
        spacing = np.exp(rng.uniform(*np.log(pixels)))
        if self.size <= SMALL and (own or kind != 'coronary') and rng.uniform() < REDUCED:
            spacing = min(2 * spacing, LARGEST_PIXEL)
        centre = rng.normal(0, 0.05, 2) + ((0, 0.02) if kind == 'iliofemoral' else (0, 0))
        if rng.uniform() < STRANGE:
            place = background.strange
        if patient is None:
            scene, known, empty = place(rng, shape, spacing, centre), True, EMPTY
        else:
            scene, lumen, known = ct_scene(rng, patient, shape, spacing)
            empty = EMPTY_CT
        devices.strewn(rng, shape, spacing, scene, rng.choice([0.0, 1.0, 2.0], p=[0.4, 0.45, 0.15]))
        subtracted = rng.uniform() < SUBTRACTED
        settings = _draw_settings(rng, subtracted, spacing)
        filled = rng.uniform() > empty
        if own:
            vessel, lumen = own_vessels(rng, lumen, settings['iodine_mg_ml'] if filled else 0.0)
        else:
            vessel, lumen = _draw_vessels(rng, kind, self._tree(kind), spacing, shape, settings, scene, filled)
        return {
            'tissue': scene.tissue,
            'bone': scene.bone,
            'metal': scene.metal,
            'spilt': scene.iodine,
            'vessel': vessel,
            'lumen': lumen if filled else None,
            'inside': _collimator(rng, shape) & known,
            'border': rng.uniform(0, 0.12),
            'subtracted': subtracted,
            # Patients breathe and move between mask and filling: pixels, as a whole and unevenly.
            'shift': rng.normal(0, rng.choice([0.3, 1.0, 3.0], p=[0.5, 0.3, 0.2]), (2, 4, 4)) * rng.choice([0.3, 1.0])
            + rng.normal(0, rng.choice([0.3, 1.5], p=[0.7, 0.3]), (2, 1, 1)),
            'before': _draw_before(rng, spacing),
            'inverted': rng.uniform() < self.bright,
            'compression': rng.uniform(0.3, 2.0) if rng.uniform() < 0.3 else 0.0,
            'looks': screen.draw_looks(rng, shape),
            'settings': settings,
        }

    def _tree(self, kind):
        """Return one of the trees at hand, which are replaced one by one: making a tree costs more than drawing it."""
        trees = self._trees[kind]
        if len(trees) < 32:
            trees.append(make_centreline(kind, self._rng))
            return trees[-1]
        at = self._rng.integers(len(trees))
        if self._rng.uniform() < 0.1:
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
        tissue, bone, metal, spilt, vessel, inside = (
            stack(name) for name in ('tissue', 'bone', 'metal', 'spilt', 'vessel', 'inside')
        )

        def noise():
            return torch.randn(vessel.shape, generator=self._noise, device=device)

        rays = xray.beams(tissue, bone, metal, settings.tube_kv)
        empty = xray.line_integral(rays, spilt)
        dose = xray.exposure_control(empty)
        clean = xray.transmit(xray.line_integral(rays, spilt + vessel) + dose, settings)
        empty = xray.transmit(empty + dose, settings)
        exposure = xray.expose(clean, settings, noise())
        chosen = [i for i, s in enumerate(samples) if s['subtracted']]
        if chosen:
            # The mask picture of a subtraction: no contrast, taken earlier, so a little elsewhere.
            earlier = empty.clone()
            shift = torch.tensor(np.stack([samples[i]['shift'] for i in chosen]), dtype=torch.float32, device=device)
            earlier[chosen] = _displaced(empty[chosen], shift)
            mask = xray.expose(earlier, settings, noise())[chosen]
            exposure[chosen] = exposure[chosen] / mask
            clean[chosen] = clean[chosen] / earlier[chosen]
            empty[chosen] = empty[chosen] / earlier[chosen]
        toned = xray.tone(exposure, settings)
        ends = xray.limits(toned, settings, inside)
        image = xray.display(toned, ends, settings)
        # What the contrast takes away, and the noise's size, as they are displayed.
        bare, clean = xray.curve(empty, settings), xray.curve(clean, settings)
        lost = bare - clean
        clean = xray.process(clean, settings)
        bare = xray.display(clean + lost, ends, settings)
        clean = xray.display(clean, ends, settings)
        depth = (bare - clean).cpu().numpy()
        clutter, noise_size = unevenness(bare).cpu().numpy(), grain(image, clean).cpu().numpy()
        label = np.zeros(vessel.shape, np.float32)
        for i, sample in enumerate(samples):
            if isinstance(sample['lumen'], np.ndarray):
                label[i] = seen_lumen(sample['lumen'], depth[i], clutter[i])
            elif sample['lumen'] is not None:
                label[i] = _visible_label(*sample['lumen'], depth[i], noise_size[i], clutter[i])

        def earlier_part(name):
            left, shift = zip(*(s['before'][name] for s in samples))
            return column(left) * _displaced(stack(name), torch.from_numpy(np.stack(shift)).float().to(device))

        tissue, bone, metal, spilt, vessel = (
            earlier_part(name) for name in ('tissue', 'bone', 'metal', 'spilt', 'vessel')
        )
        rays = xray.beams(tissue, bone, metal, settings.tube_kv)
        before = xray.transmit(xray.line_integral(rays, spilt + vessel) + dose, settings)
        before = xray.expose(before, settings, noise())
        if chosen:
            before[chosen] = before[chosen] / mask
        before = xray.display(xray.tone(before, settings), ends, settings)

        inverted = column([s['inverted'] for s in samples]) > 0
        border = column([s['border'] for s in samples])
        packed = [i for i, s in enumerate(samples) if s['compression']]
        step = column([samples[i]['compression'] for i in packed])

        def stored(picture):
            shown = picture.cpu().numpy()
            shown = np.stack([screen.show(one, sample['looks']) for one, sample in zip(shown, samples)])
            picture = torch.from_numpy(shown).to(device)
            picture = torch.where(inside, torch.where(inverted, 1 - picture, picture), border)
            if packed:
                picture[packed] = xray.compress(picture[packed], step)
            return picture

        return stored(image), (torch.from_numpy(label).to(device) * inside).round(), stored(before)


def _draw_before(rng, spacing):
    """Return of each part of a scene how much of it there was when the reference was taken, as a share, and by how much
    it lay elsewhere, (2, 4, 4) pixels.

    Breath moves the heart by millimetres, deep breath by centimetres (McLeish et al., IEEE TMI 2002;21:1142); hands
    move devices further, or take them out.
    """
    breath = rng.choice([0.1e-3, 1e-3, 4e-3], p=[0.45, 0.35, 0.2]) / spacing
    whole = rng.normal(0, 0.1e-3 / spacing * rng.choice([1, 10], p=[0.8, 0.2]), (2, 1, 1))
    tissue = whole + rng.normal(0, breath, (2, 1, 1)) + rng.normal(0, 0.3 * breath, (2, 4, 4))
    bone = whole + rng.normal(0, 0.1 * breath, (2, 4, 4))
    hand = rng.choice([0.0, 1e-3, 6e-3], p=[0.5, 0.3, 0.2]) / spacing
    metal = tissue + rng.normal(0, hand, (2, 1, 1)) + rng.normal(0, 0.3 * hand, (2, 4, 4))
    device, late = rng.uniform() > 0.07, rng.uniform() < 0.12
    return {
        'tissue': (1.0, tissue),
        'bone': (1.0, bone),
        'metal': (float(device), metal),
        'spilt': (rng.choice([0.0, rng.uniform()]), metal),
        'vessel': (rng.uniform(0.05, 1.0) if late else 0.0, tissue),
    }


def _displaced(pictures, shift):
    """Return pictures (B, H, W) moved by `shift` (B, 2, k, k) pixels, smooth between its k x k values.

    Motion between mask and filling is not rigid: Meijering, Zuiderveld and Viergever, IEEE TMI 1999;18:2.
    """
    height, width = pictures.shape[-2:]
    still = torch.eye(2, 3, device=pictures.device).repeat(len(pictures), 1, 1)
    at = F.affine_grid(still, (len(pictures), 1, height, width), align_corners=False)
    field = F.interpolate(shift, (height, width), mode='bicubic', align_corners=True).permute(0, 2, 3, 1)
    scale = torch.tensor([2 / width, 2 / height], device=pictures.device)
    return F.grid_sample(pictures[:, None], at + field * scale, padding_mode='border', align_corners=False)[:, 0]


def _draw_settings(rng, subtracted, spacing):
    # Systems differ in how much of the grey scale a picture fills; subtracted ones often lie flat about its middle.
    flat = rng.uniform() < (0.75 if subtracted else 0.25)
    most = (1.0 if subtracted else 0.6) if flat else 0.1
    subtle = rng.uniform() < 0.4
    dose = np.exp(rng.uniform(*np.log(DOSE))) * (3 if subtracted else 1)
    dose *= 1e4 if rng.uniform() < NOISELESS else 1
    focal_spot = rng.uniform(0.3e-3, 1.0e-3)
    black, width = rng.uniform(0.0, 0.02), rng.uniform(0.1, 0.5) if subtracted else rng.uniform(0.25, 0.7)
    windowed, part = BLACK_SUBTRACTED if subtracted else BLACK
    if rng.uniform() < windowed:
        black, most = rng.uniform(0.02, part), 0.2 * most
        width *= rng.uniform(0.2, 1) if subtracted else 1
    return {
        'iodine_mg_ml': rng.uniform(150, 350),
        'tube_kv': rng.uniform(65, 100),
        # Dose holds behind the patient, where exposure control puts the median signal at exp(-1.5).
        'photons': xray.photons(dose, 1.4 * spacing) * np.exp(1.5),
        'scatter': rng.uniform(0.1, 0.5),
        'scatter_blur': rng.uniform(12, 40),
        'glare': rng.uniform(0, 0.1),
        # A focal spot is magnified by 0.4 where the picture is by 1.4; a screen and a lens or a diode add to it.
        'blur': np.hypot(0.3 * 0.4 / 1.4 * focal_spot / spacing, rng.uniform(0.5, 1.2)),
        'electronic_noise': rng.uniform(0, 0.002),
        'vignetting': rng.uniform(0, 0.3),
        'tone': rng.uniform(0, 0.3) if subtracted else rng.uniform(0, 1) ** 1.5,
        'flattening': 0.0 if rng.uniform() < 0.6 else rng.uniform(0.1, 0.8),
        'edge_gain': 0.0 if subtle else rng.uniform(0, 1.2),
        'edge_blur': rng.uniform(1.5, 5),
        'smoothing': 0.0 if rng.uniform() < 0.06 else rng.uniform(0.6, 1.2),
        'window': (black, 1 - rng.choice([rng.uniform(0.002, 0.05), rng.uniform(0.02, 0.2)])),
        'least_width': width,
        'latitude': tuple(rng.uniform(0, most, 2)),
        'grey': (rng.uniform(0.0, 0.3), rng.uniform(0.65, 1.0)),
    }


def _draw_vessels(rng, kind, tree, spacing, shape, settings, scene, filled):
    """Return contrast in the vessels (H, W), metres x mg/ml, and the lumen to label (pixels, radii, segments).

    Catheters, stents, calcium and spilt contrast are added to `scene`. filled: whether there is contrast at all.
    """
    _, _, _, dilution, angles = KINDS[kind]
    tree = replace(tree, points=tree.points * rng.normal(1.0, 0.06, 3), radii=tree.radii * rng.uniform(0.85, 1.2))
    points, radii = tree.points, tree.radii
    arm = CArm(*np.deg2rad(np.clip(rng.normal(0, angles), -60, 60)))
    magnification = arm.source_to_detector / arm.source_to_isocentre
    camera = Camera.from_detector(
        shape[1], shape[0], arm.source_to_detector, spacing * magnification, bool(rng.integers(2))
    )
    share = rng.uniform()
    focus = share * points[rng.integers(len(points))] + (1 - share) * points.mean(axis=0)
    focus += rng.normal(0, 0.12 * shape[0] * spacing, 3)
    T_image_model = arm.T_image_isocentre @ rigid(rng.normal(0, 0.08, 3)) @ rigid(translation=-focus)
    intensifier = (rng.uniform(0, 0.06), rng.normal(0, 0.03)) if rng.uniform() < 0.3 else (0.0, 0.0)

    def project(points_image):
        return xray.distort(camera.project(points_image), shape, *intensifier)

    points_image = apply(T_image_model, points)
    pixels = project(points_image)
    radii_px = radii * camera.fy / points_image[:, 2]
    segments, lengths = open_segments(tree)
    pixel = points_image[:, 2].mean() / camera.fy

    _add_devices(rng, kind, tree, pixels, radii_px, pixel, scene)
    iodine = settings['iodine_mg_ml'] * np.exp(rng.uniform(*np.log(dilution))) if filled else 0.0
    for outer, steel, full in _catheters(rng, kind):
        axis = apply(T_image_model, _catheter_axis(rng, kind, tree))
        tube, inner = _draw_catheter(project(axis), axis, outer, camera.fy, shape)
        scene.metal += steel * tube
        # Contrast comes through the catheter undiluted; it is not vessel.
        scene.iodine += full * settings['iodine_mg_ml'] * inner
    if not filled:
        return np.zeros(shape, np.float32), None

    amount = iodine * _concentration(rng, kind, tree)
    mid = amount[segments].mean(axis=1)
    vessel = draw_tubes(pixels, radii_px, lengths * mid, segments, shape)[0]
    down = T_image_model[:2, 1]
    if kind != 'coronary' and rng.uniform() < 0.3 and np.linalg.norm(down) > 0.3:
        # The patient lies on the back: contrast sinks to the posterior wall.
        low = contrast.layered(pixels, radii_px, down, rng.uniform(0.65, 0.85))
        sunk = rng.uniform(0.1, 0.5)
        vessel = (1 - sunk) * vessel + sunk * draw_tubes(*low, lengths * mid, segments, shape)[0]
    if rng.uniform() < SILHOUETTE:
        vessel = vessel.max() * rng.uniform(0.2, 1.0) * (vessel > 0.05 * vessel.max()).astype(np.float32)
    if rng.uniform() < 0.5:
        streaks = rng.uniform(0.3, 1.5) * np.median(radii_px) + 2
        vessel = contrast.swirled(rng, vessel, streaks, rng.uniform(0.02, 0.3 if kind != 'coronary' else 0.12))
    if kind == 'coronary':
        if rng.uniform() < 0.5:
            size = rng.uniform(2e-3, 9e-3) / pixel
            at = pixels[0] + rng.normal(0, 0.6 * size, 2)
            scene.iodine += iodine * rng.uniform(1e-3, 8e-3) * contrast.puff(rng, shape, at, size)
        if rng.uniform() < 0.6:
            scene.iodine += iodine * _twigs(rng, pixels, pixel, shape)
    if rng.uniform() < (0.5 if kind in ('coronary', 'aortic_root') else 0.1):
        # The heart moves at 10 to 100 mm/s (Husmann et al., Radiology 2007;245:567), pulses take 3 to 10 ms.
        speed, angle = rng.uniform(0.01, 0.1) / pixel, rng.uniform(0, 2 * np.pi)
        velocity = speed * np.array([np.cos(angle), np.sin(angle)])
        lag = rng.choice([0.0, rng.uniform(0.02, 0.35)])
        kernel = xray.motion_kernel(velocity * rng.uniform(3e-3, 1e-2), lag, np.clip(velocity / 15, -9, 9))
        vessel = cv2.filter2D(vessel, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    # People draw a thin vessel's edge where the contrast is half, which the blur widens, and a wide one to its wall.
    thin = np.clip((WIDE - radii_px) / (WIDE - THIN), 0, 1)
    drawn = np.sqrt((radii_px - 0.134 * thin * radii_px) ** 2 + (0.8 * thin * settings['blur']) ** 2)
    if kind == 'coronary':
        drawn = drawn_coronary(radii_px, settings['blur'])
    thick = (radii[segments] > LEAST_RADIUS).all(axis=1)
    return vessel, (pixels, drawn, segments[thick])


def _concentration(rng, kind, tree):
    """Return the concentration (N,) at a tree's points, 0 to 1."""
    concentration = np.ones(len(tree.points))
    if rng.uniform() < 0.3:
        travel = flow_distance(tree)
        longest = travel.max()
        concentration = contrast.bolus(
            travel,
            rng.uniform(0.25, 1.4) * longest,
            rng.uniform(0.3, 1.5) * longest,
            rng.uniform(0.02, 0.15) * longest,
        )
    if rng.uniform() < (0.5 if kind == 'coronary' else 0.25):
        concentration = concentration * rng.uniform(0.25, 1.0, tree.branch.max() + 1)[tree.branch]
    return concentration


def _add_devices(rng, kind, tree, pixels, radii_px, pixel, scene):
    """Add calcium, stents and valve frames on a tree to `scene`."""
    shape = scene.bone.shape
    if rng.uniform() < (0.15 if kind == 'coronary' else 0.35):
        curves, radii, depths = devices.plaques(rng, pixels, radii_px, tree.branch, pixel, int(rng.integers(2, 25)))
        scene.bone += devices.wires(curves, radii, depths, shape)
    if rng.uniform() < (0.25 if kind == 'aortic_root' else 0.1):
        # A valve's frame sits at the inflow, a stent anywhere.
        valve = kind == 'aortic_root' and rng.uniform() < 0.8
        run = np.flatnonzero(tree.branch == (0 if valve else rng.integers(tree.branch.max() + 1)))
        length = int(rng.integers(10, 40))
        start = max(0, len(run) - length) if valve else int(rng.integers(0, max(1, len(run) - length)))
        run = run[start : start + length]
        if len(run) > 5:
            radius = radii_px[run].mean()
            mesh = devices.stent(
                pixels[run],
                radii_px[run],
                rng.uniform(2.5, 7) * radius,
                int(rng.integers(3, 8)),
                rng.uniform(0, 2 * np.pi),
            )
            wire = rng.uniform(0.05e-3, 0.3e-3) * (1.0 if kind != 'coronary' else 0.4)
            scene.metal += devices.wires(mesh, max(0.4, wire / pixel), rng.uniform(0.3, 1) * wire, shape)


def _catheters(rng, kind):
    """Return what lies in the vessels: (outer radius in metres, steel as a share, how full of contrast) each.

    Diagnostic and guide catheters 4 to 8 French, sheaths 14 to 20 French, guide wires 0.018 to 0.035 inch.
    """
    out = []
    if rng.uniform() < (0.85 if kind == 'coronary' else 0.5):
        full = rng.choice([0.0, rng.uniform(0.1, 0.4), rng.uniform(0.5, 1.0)])
        out.append((rng.uniform(0.65, 1.3) * 1e-3, rng.uniform(0.01, 0.12), full))
    if kind == 'iliofemoral' and rng.uniform() < 0.15:
        out.append((rng.uniform(2.3, 3.3) * 1e-3, rng.uniform(0.005, 0.03), 0.0))
    if kind != 'coronary' and rng.uniform() < 0.3:
        out.append((rng.uniform(0.23, 0.45) * 1e-3, rng.uniform(0.3, 1.0), 0.0))
    return out


def _catheter_axis(rng, kind, tree):
    """Return the axis (n, 3) of the catheter that brings the contrast, or of another device in the lumen."""
    if kind == 'coronary':
        return guide_catheter(tree, rng.normal(0, 0.03, 3))
    ends = np.flatnonzero(np.bincount(tree.edges.ravel()) == 1)
    return coaxial_catheter(
        tree, int(rng.integers(0, np.count_nonzero(tree.branch == 0))), int(rng.choice(ends)), rng.uniform(0, 6)
    )


def _draw_catheter(pixels, axis_image, outer, focal_length, shape):
    """Return path lengths (H, W), metres, through a round catheter and through its inner lumen."""
    radii_px = np.maximum(0.4, outer * focal_length / axis_image[:, 2])
    segments = np.stack([np.arange(len(pixels) - 1), np.arange(1, len(pixels))], axis=1)
    steps = np.linalg.norm(np.diff(axis_image, axis=0), axis=1)
    tube, _ = draw_tubes(pixels, radii_px, steps, segments, shape)
    inner, _ = draw_tubes(pixels, 0.75 * radii_px, steps, segments, shape)
    return tube, inner


def _twigs(rng, pixels, pixel, shape):
    """Return the path (H, W), metres, through the finest branches of a tree, below what anybody draws."""
    starts = pixels[rng.integers(0, len(pixels), int(rng.integers(8, 60)))]
    starts = starts[((starts > -20) & (starts < np.array(shape[::-1]) + 20)).all(axis=1)]
    count = len(starts)
    lengths = rng.uniform(5e-3, 25e-3, count) / pixel
    curves = devices.meanders(rng, starts, rng.uniform(0, 2 * np.pi, count), lengths, 1.2)
    radii = rng.uniform(0.06e-3, 0.22e-3, count)
    drawn = np.maximum(0.5, radii / pixel)
    # What is drawn too wide, for it is below a pixel, is drawn thinner.
    return devices.wires(curves, drawn, np.pi * radii**2 / (2 * drawn * pixel), shape)


def _visible_label(pixels, radii_px, segments, contrast, grain, clutter):
    """Return the label (H, W) of the lumen where it can be seen; see `seen_segments`."""
    seen = seen_segments(pixels, radii_px, segments, contrast.shape, lambda *at: (contrast[at], grain[at], clutter[at]))
    return draw_tubes(pixels, radii_px, np.zeros(len(seen)), seen, contrast.shape)[1]


def _collimator(rng, shape):
    """Return (H, W) bool, True inside a round or rectangular opening, or everywhere."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    draw = rng.uniform()
    if draw < 0.45:
        return np.ones(shape, bool)
    if draw < 0.85:
        radius = rng.uniform(0.45, 1.0) * shape[0]
        reach = max(0.0, radius - 0.35 * shape[0])
        angle = rng.uniform(0, 2 * np.pi)
        cx, cy = np.array(shape[::-1]) / 2 + rng.uniform(0, reach) * np.array([np.cos(angle), np.sin(angle)])
        return np.hypot(x - cx, y - cy) < radius
    left, top = rng.uniform(0, 0.12, 2) * shape[0]
    right, bottom = shape[0] * (1 - rng.uniform(0, 0.12, 2))
    tilt = rng.normal(0, 0.02)
    return (x + tilt * y > left) & (x + tilt * y < right) & (y > top) & (y < bottom)
