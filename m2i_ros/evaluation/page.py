"""What reports in HTML share: one file with its pictures inside, plots of one look, numbers for people."""

import base64
import io
import math
from pathlib import Path

import jinja2
import matplotlib
from matplotlib.figure import Figure

from m2i_ros import __version__

INK, BLUE, MARK = '#1d2733', '#2563eb', '#c2410c'


def write_page(path, template, **values):
    """Write a template of this folder, filled with values, as one HTML file.

    Filters: `figure(digits)` of a number, `share(digits)` of one from 0 to 1; a dash where there is none.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters['figure'] = _figure
    environment.filters['share'] = _share
    text = environment.get_template(template).render(version=__version__, **values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def _figure(value, digits):
    if math.isnan(value):
        return '–'
    return '∞' if math.isinf(value) else f'{value:.{digits}f}'


def _share(value, digits=1):
    return '–' if math.isnan(value) else f'{value:.{digits}%}'


def data_uri(kind, data):
    """Return the data URI of a picture's bytes; kind: jpeg or svg+xml."""
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def make_axes():
    """Return (figure, axes) of a plot."""
    figure = Figure(figsize=(6.4, 3.4), layout='constrained')
    axes = figure.subplots()
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='y', color='#e5e9ee')
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def svg(figure):
    """Return the data URI of a figure; the same figure gives the same bytes."""
    file = io.BytesIO()
    with matplotlib.rc_context({'svg.hashsalt': 'm2i_ros'}):
        figure.savefig(file, format='svg', metadata={'Date': None})
    return data_uri('svg+xml', file.getvalue())
