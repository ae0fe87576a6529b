"""A sheet of simulated frames with masks and references, beside real ones where a folder is given, to be looked at.

python -m m2i_ros.simulation.sheet --out sheet.png [--real DIR] [--seed 0]

DIR holds pictures, or `images/` and `masks/` with the same names: then a table compares what can be measured in both.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

SIZE, COLUMNS = 300, 8
_PICTURES = ('.png', '.jpg', '.jpeg', '.tif', '.bmp')


def main(argv=None):
    """Write the sheet: training samples, phantom frames and real pictures. Return 0."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', required=True, help='the picture to write')
    parser.add_argument('--real', help='a folder of real angiograms to show beside')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--rows', type=int, default=4, help='rows of training samples')
    parser.add_argument('--width', type=int, default=0, help='of the sheet, pixels; 0: as it is')
    parser.add_argument('--compare', type=int, default=0, help='training samples to measure beside the real pictures')
    args = parser.parse_args(argv)

    from m2i_ros.simulation import Phantom, TrainingSamples

    real = _read(Path(args.real)) if args.real else []
    order = np.random.default_rng(args.seed).permutation(len(real))
    samples = TrainingSamples(SIZE, args.seed, COLUMNS)
    sheet = []
    for k in range(args.rows):
        sheet += [_row((255 * batch[:, 0]).byte().numpy()) for batch in next(samples)]
        if len(real):
            sheet.append(_row([real[i][0] for i in np.roll(order, -COLUMNS * k)[:COLUMNS]]))
    for anatomy in ('iliofemoral', 'aortic_root', 'aortic_arch'):
        phantom = Phantom(anatomy, args.seed, SIZE, SIZE)
        frames = [phantom[i] for i in np.linspace(12, 0.6 * len(phantom) / 2 + 40, COLUMNS).astype(int)]
        sheet += [_row([f.image for f in frames]), _row([f.mask for f in frames])]
    sheet, rows = np.vstack(sheet), len(sheet)
    if args.width:
        size = args.width, round(len(sheet) * args.width / sheet.shape[1])
        sheet = cv2.resize(sheet, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(args.out, sheet, [cv2.IMWRITE_JPEG_QUALITY, 80])
    print(f'{args.out}: {rows} rows of {COLUMNS} pictures')
    if args.compare:
        simulated = []
        while len(simulated) < args.compare:
            simulated += [
                ((255 * i[0]).byte().numpy(), (255 * m[0]).byte().numpy())
                for i, m, _ in zip(*next(samples), strict=True)
            ]
        _print_table(simulated, [pair for pair in real if pair[1] is not None])
    return 0


def measure(image, mask):
    """Return what can be compared between a simulated and a real picture, as a dict of floats; None without a vessel.

    image: (H, W) uint8, vessels dark or bright. mask: (H, W) uint8, above 0 on vessels.

    median, spread: grey of the background inside the collimator and half the distance of its 5% and 95% quantiles.
    noise: deviation of what a Gaussian of 1.5 pixels takes out of the background. grain: correlation of that between
    neighbouring pixels: 0 for white noise. texture, lumps: deviation of what lies between Gaussians of 2 and 6 pixels,
    and of 6 and 18, in the background. contrast: by how much vessels are darker than a ring around them; all in
    grey levels of 255. width: of the vessels, pixels: 95% quantile of twice the distance to the edge.
    """
    mask = (mask > 0).astype(np.uint8)
    if mask.sum() < 200:
        return None
    grey = image.astype(np.float32)
    shut = cv2.morphologyEx((image < 32).astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    inside = cv2.erode(1 - shut, np.ones((9, 9), np.uint8)) > 0
    away = inside & (cv2.dilate(mask, np.ones((15, 15), np.uint8)) == 0)
    ring = inside & ~away & (cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0)
    if away.sum() < 1000 or ring.sum() < 50:
        return None
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 1.5)
    smooth = {sigma: cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (2, 6, 18)}
    low, middle, high = np.quantile(grey[away], (0.05, 0.5, 0.95))
    return {
        'median': middle,
        'spread': (high - low) / 2,
        'noise': 1.4826 * np.median(np.abs(fine[away])),
        'grain': (fine[:, 1:] * fine[:, :-1])[away[:, 1:]].mean() / max((fine[away] ** 2).mean(), 1e-9),
        'texture': 1.4826 * np.median(np.abs(smooth[2] - smooth[6])[away]),
        'lumps': 1.4826 * np.median(np.abs(smooth[6] - smooth[18])[away]),
        'contrast': abs(np.median(grey[ring]) - np.median(grey[mask > 0])),
        'width': 2 * np.quantile(cv2.distanceTransform(mask, cv2.DIST_L2, 5)[mask > 0], 0.95),
    }


def _print_table(simulated, real):
    print(f'{"":10}{"simulated: 10%, 50%, 90%":>28}{"real":>28}')
    columns = []
    for pairs in (simulated, real):
        rows = [row for row in (measure(*pair) for pair in pairs) if row]
        columns.append({k: np.quantile([row[k] for row in rows], (0.1, 0.5, 0.9)) for k in (rows[0] if rows else ())})
    for name, values in columns[0].items():
        text = ''.join(f'{" ".join(f"{v:8.2f}" for v in c):>28}' for c in (values, columns[1].get(name, ())))
        print(f'{name:10}{text}')


def _read(folder):
    """Return the pictures of a folder as (image, mask or None), at the sheet's size."""
    images = folder / 'images' if (folder / 'images').is_dir() else folder
    out = []
    for path in sorted(p for p in images.iterdir() if p.suffix.lower() in _PICTURES):
        mask = folder / 'masks' / path.name
        pair = [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) if p.is_file() else None for p in (path, mask)]
        out.append([None if p is None else cv2.resize(p, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for p in pair])
    return out


def _row(pictures):
    pictures = [np.pad(p, 2, constant_values=128) for p in pictures]
    return np.hstack(pictures + [np.zeros_like(pictures[0])] * (COLUMNS - len(pictures)))


if __name__ == '__main__':
    raise SystemExit(main())
