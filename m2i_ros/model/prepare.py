"""`prepare_model`: from a surface, volume or centreline to a checked model (.npz), a summary and a picture."""

import argparse
import logging
import sys
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from m2i_ros.model.errors import ModelError
from m2i_ros.model.files import AXES, SUFFIXES, UNITS, load_model, save_model
from m2i_ros.model.surface import components, openings, surface_samples

VIEWS = {'along z': (0, 1), 'along y': (0, 2), 'along x': (1, 2)}  # the model axes that go right and up
_COLOURS = ((235, 99, 37), (22, 163, 74), (38, 38, 220), (234, 51, 147), (8, 145, 178), (20, 83, 154))  # BGR


def main(argv=None):
    """Run `prepare_model`; return 0, or 2 where there is no model."""
    parser = argparse.ArgumentParser(
        prog='prepare_model',
        description='Reads a vessel surface, a label map, a contrast CTA or centrelines, and writes a model that loads '
        'at once (.npz), with a picture of it beside.',
    )
    parser.add_argument('file', type=Path, help=', '.join(SUFFIXES))
    parser.add_argument(
        '--units', choices=tuple(UNITS), default='mm', help='unit of a mesh or centreline (default: mm)'
    )
    parser.add_argument(
        '--axes',
        choices=AXES,
        default='lps',
        help='axes of a mesh or centreline (default: lps); a volume states its own',
    )
    parser.add_argument('--label', type=int, nargs='+', metavar='N', help='the label(s) of the vessels in a label map')
    parser.add_argument('--threshold', type=float, metavar='HU', help='what contrast reaches in a CTA')
    parser.add_argument(
        '--seed-point',
        type=float,
        nargs=3,
        metavar=('X', 'Y', 'Z'),
        help="with --threshold: a point in the vessel, mm, the file's axes (default: the largest part, be it bone)",
    )
    parser.add_argument('--centreline', type=Path, metavar='FILE', help='centrelines with radii (CSV, VTP, VTK)')
    parser.add_argument('-o', '--output', type=Path, help='where to write (default: FILE as .npz)')
    arguments = parser.parse_args(argv)
    file = arguments.file
    output = arguments.output or (file.with_suffix('') if file.name.endswith('.gz') else file).with_suffix('.npz')
    logging.basicConfig(format='%(message)s')
    try:
        with Console(stderr=True).status(f'{file.name}: reading, extracting the centreline'):
            model = load_model(
                file,
                arguments.units,
                arguments.axes,
                arguments.label,
                arguments.threshold,
                arguments.seed_point,
                arguments.centreline,
            )
            save_model(model, output)
        if not cv2.imwrite(str(output.with_suffix('.png')), picture(model)):
            raise ModelError(f'{output.with_suffix(".png")}: cannot be written')
    except ModelError as error:
        print(f'prepare_model: {error}', file=sys.stderr)
        return 2
    print('\n'.join(summary(model)))
    print(f'written     {output}, {output.with_suffix(".png").name}')
    return 0


def summary(model):
    """Return lines that tell a person whether this is the model they meant."""
    size = 1e3 * np.ptp(model.vertices, axis=0)
    holes = len(openings(model.vertices, model.faces)[0])
    line = model.centreline
    lines = [
        f'model       {model.name}, axes {model.axes}',
        f'extent      {size[0]:.1f} x {size[1]:.1f} x {size[2]:.1f} mm',
        f'surface     {len(model.faces)} faces, {components(model.faces)[0]} component(s), '
        + (f'open at {holes} place(s)' if holes else 'closed')
        + f', {int(model.cap_faces.sum())} faces on caps',
        f'centreline  {len(line.points)} points, {line.branch.max() + 1} branch(es)',
    ]
    for branch in range(line.branch.max() + 1):
        at = line.branch == branch
        radii = 1e3 * line.radii[at]
        lines.append(
            f'  branch {branch:<3d}{1e3 * line.arc_length[at].max():7.1f} mm long, '
            f'radius {radii.min():.1f} to {radii.max():.1f} mm'
        )
    return [*lines, f'hash        {model.hash}']


def picture(model, size=480):
    """Return the model from three sides, (size, 3 size, 3) uint8 BGR: surface grey, caps dark, branches in colours."""
    low, high = model.vertices.min(axis=0), model.vertices.max(axis=0)
    scale = 0.86 * size / (high - low).max()
    samples, _ = surface_samples(model.vertices, model.faces, 1 / scale)
    views = []
    for name, (right, up) in VIEWS.items():
        view = np.full((size, size, 3), 255, np.uint8)

        def pixels(points, right=right, up=up):
            offset = (points - (low + high) / 2)[..., [right, up]] * scale * (1, -1)
            return np.round(offset + size / 2).astype(np.int32)

        # Density, as X-rays would show it: where surfaces overlap it is darker.
        shade = np.zeros((size, size), np.float32)
        at = pixels(samples)
        np.add.at(shade, (at[:, 1], at[:, 0]), 1.0)
        shade = cv2.GaussianBlur(shade, (0, 0), 2.0)
        shade /= max(float(np.percentile(shade[shade > 0], 90)), 1e-6)
        view[:] = (255 - 110 * np.clip(shade, 0, 1))[..., None].astype(np.uint8)
        for face in pixels(model.vertices[model.faces[model.cap_faces]]):
            cv2.fillConvexPoly(view, face, (90, 90, 90), cv2.LINE_AA)
        points = pixels(model.centreline.points)
        for one, two in model.centreline.edges:
            colour = _COLOURS[model.centreline.branch[two] % len(_COLOURS)]
            cv2.line(view, points[one].tolist(), points[two].tolist(), colour, 2, cv2.LINE_AA)
        text = f'{name} ({"xyz"[right]} right, {"xyz"[up]} up)'
        cv2.putText(view, text, (10, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
        views.append(view)
    bar = round(0.02 * scale)
    cv2.line(views[0], (10, size - 12), (10 + bar, size - 12), (60, 60, 60), 2)
    cv2.putText(views[0], '20 mm', (10, size - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (60, 60, 60), 1, cv2.LINE_AA)
    return np.hstack(views)


if __name__ == '__main__':
    sys.exit(main())
