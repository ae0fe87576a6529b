"""A sheet of simulated frames with their masks, beside real ones where a folder is given, to be looked at.

python -m m2i_ros.simulation.sheet --out sheet.png [--real DIR] [--seed 0]
"""

import argparse
from pathlib import Path

import cv2
import numpy as np


def main(argv=None):
    """Write the sheet: training samples, phantom frames and real pictures. Return 0."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', required=True, help='the picture to write')
    parser.add_argument('--real', help='a folder of real angiograms to show beside')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--rows', type=int, default=4, help='rows of training samples')
    args = parser.parse_args(argv)

    from m2i_ros.simulation import Phantom, TrainingSamples

    size, columns = 256, 8
    sheet = []
    samples = TrainingSamples(size, args.seed, columns)
    for _ in range(args.rows):
        sheet += [_row((255 * batch[:, 0]).byte().numpy()) for batch in next(samples)]
    for anatomy in ('iliofemoral', 'aortic_root', 'aortic_arch'):
        phantom = Phantom(anatomy, args.seed, size, size)
        frames = [phantom[i] for i in np.linspace(12, 0.6 * len(phantom) / 2 + 40, columns).astype(int)]
        sheet += [_row([f.image for f in frames]), _row([f.mask for f in frames])]
    if args.real:
        paths = sorted(
            p for p in Path(args.real).iterdir() if p.suffix.lower() in ('.png', '.jpg', '.jpeg', '.tif', '.bmp')
        )
        for start in range(0, min(len(paths), 3 * columns), columns):
            pictures = [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in paths[start : start + columns]]
            row = [cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in pictures]
            sheet.append(_row(row + [np.zeros((size, size), np.uint8)] * (columns - len(row))))
    cv2.imwrite(args.out, np.vstack(sheet))
    print(f'{args.out}: {len(sheet)} rows of {columns} pictures')
    return 0


def _row(pictures):
    return np.hstack([np.pad(p, 2, constant_values=128) for p in pictures])


if __name__ == '__main__':
    raise SystemExit(main())
