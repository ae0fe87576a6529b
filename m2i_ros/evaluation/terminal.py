"""What a job shows while it runs and when it is done: progress, and tables of quartiles."""

import math

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


def quartiles(values):
    """Return {'n', 'median', 'q1', 'q3'} of values that are numbers, infinite ones too; NaN is left out."""
    values = [v for v in values if not math.isnan(v)]
    q1, median, q3 = percentiles(values, (25, 50, 75))
    return {'n': len(values), 'median': median, 'q1': q1, 'q3': q3}


def percentiles(values, shares):
    """Return percentiles of values that are numbers, infinite ones too; NaN is left out, and the answer of nothing."""
    values = np.sort([v for v in values if not math.isnan(v)])
    if not len(values):
        return [math.nan] * len(shares)
    if not np.isfinite(values).all():
        # Between an infinite and a finite value there is no middle: the nearest value, then.
        return [float(values[round(share / 100 * (len(values) - 1))]) for share in shares]
    return [float(v) for v in np.percentile(values, shares)]


def progress_bar():
    """Return a rich `Progress` that draws on stderr: how much is done, and the time left."""
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def quartile_table(title, *more):
    """Return a rich `Table` for quartiles, with further columns `more`."""
    table = Table(title=title)
    for column in ('', 'median', 'q1', 'q3', 'n', *more):
        table.add_column(column, justify='left' if not column else 'right')
    return table


def add_quartiles(table, metric, values, *more):
    """Add a row to a `quartile_table`: the quartiles `values` of a metric, and further figures."""
    figures = [figure(v) for v in (values['median'], values['q1'], values['q3'])]
    table.add_row(metric, *figures, str(values['n']), *(figure(v) for v in more))


def figure(value):
    """Return a number with three digits after the point, '-' where there is none."""
    return '-' if value is None or math.isnan(value) else f'{value:.3f}'
