"""How a training does on real pictures it has not seen: as many trainings as folds, each scored on what it left out."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from m2i_ros.evaluation.metrics import mask_scores
from m2i_ros.evaluation.terminal import quartiles
from m2i_ros.recording.report import write_json
from m2i_ros.segmentation import Segmenter
from m2i_ros.training.data import read_folders
from m2i_ros.training.export import export
from m2i_ros.training.segmentation import SegmentationTraining
from m2i_ros.training.validation import best_threshold, threshold_scores

# Where a fold's threshold comes from.
THRESHOLDS_FROM = ('simulation', 'other folds')


def split(names, folds, groups, seed):
    """List of `folds` lists of names, of sizes as equal as groups allow, drawn by a seed. See `CrossValidation`."""
    known = {_plain(name): name for name in names}
    units = []
    for group in groups:
        unknown = [name for name in group if _plain(name) not in known]
        if unknown:
            raise ValueError(f'groups: no picture is named {unknown[0]!r}; there are {", ".join(names)}')
        units.append([known[_plain(name)] for name in group])
    grouped = [name for unit in units for name in unit]
    if len(set(grouped)) < len(grouped):
        raise ValueError('groups: a picture stands in two groups; join them')
    units += [[name] for name in names if name not in grouped]
    if not 2 <= folds <= len(units):
        raise ValueError(f'folds {folds}: between 2 and {len(units)}, the number of pictures or groups, are needed')
    order = np.random.default_rng(seed).permutation(len(units))
    made = [[] for _ in range(folds)]
    for unit in sorted((units[i] for i in order), key=len, reverse=True):
        min(made, key=len).extend(unit)
    return [sorted(fold) for fold in made]


def _plain(name):
    name = name.strip()
    return str(int(name)) if name.isdecimal() else name


class CrossValidation:
    """Trainings in a folder, one a fold: OUT/fold1 and so on. What is there is not done again.

    settings: of each training; its data.real are the pictures, and initial_weights must not have seen them.
    folds: how many. groups: lists of names of pictures alike, which come into one fold; '2' means '02' too.
    fabric: see `SegmentationTraining`.

    Each fold's network is the last average of its training: nothing was chosen on the pictures held out.
    Raises ValueError for unknown or repeated names, and for a folder that holds another cross-validation.
    """

    def __init__(self, settings, out, folds, groups=(), fabric=None):
        self._settings, self._out, self._fabric = settings, Path(out), fabric
        self._pairs = {name: (image, mask) for name, image, mask in read_folders(settings.data.real)}
        if len(self._pairs) < len(read_folders(settings.data.real)):
            raise ValueError('two of the real pictures have one name: rename one')
        self._folds = split(list(self._pairs), folds, groups, settings.seed)
        self.file = self._out / 'crossvalidation.json'
        plan = json.loads(json.dumps({'settings': asdict(settings), 'folds': self._folds}))
        kept = self._out / 'plan.json'
        if kept.exists() and json.loads(kept.read_text(encoding='utf-8')) != plan:
            raise ValueError(f'{kept} is of other settings, folds or groups: give another --out')
        self._out.mkdir(parents=True, exist_ok=True)
        write_json(kept, plan)

    def held_out(self, fold):
        """Names of the pictures on which fold number `fold`, from 0, is scored."""
        return self._folds[fold]

    def done(self, fold):
        """Whether a fold's network is there."""
        return (self._folder(fold) / 'weights.md').exists()

    def training(self, fold, report):
        """Return the fold's `SegmentationTraining`, resumed where it has begun."""
        left_out, every = self.held_out(fold), self._settings.data.real
        real = tuple({**folders, 'leave_out': [*folders.get('leave_out', []), *left_out]} for folders in every)
        settings = replace(self._settings, data=replace(self._settings.data, real=real))
        resume = (self._folder(fold) / 'checkpoint.pt').exists()
        return SegmentationTraining(settings, self._folder(fold), resume, report, self._fabric)

    def finish(self, fold):
        """Write the weights of a fold that is trained."""
        text = f'One fold of a cross-validation; not trained on {", ".join(self.held_out(fold))}.'
        export(self._folder(fold) / 'checkpoint.pt', 'weights', self._folder(fold), text)

    def score(self):
        """Score every picture by the fold that left it out; return what is written to `file`, a dict.

        Twice: at each fold's own threshold, from its simulated validation frames ('simulation'), and at the one best
        for the pictures of the other folds ('other folds'): no picture has a say in its own threshold. Masks of the
        latter and probabilities (255 is 1) go into folders as PNG.
        """
        # Which way contrast is shown is not the question here: it is dark in all of them. Nor are they of one stream.
        how = {'polarity': 'dark', 'reference': False}
        segmenters = [Segmenter(self._folder(fold) / 'weights', **how) for fold in range(len(self._folds))]
        swept = {}
        for segmenter, names in zip(segmenters, self._folds):
            for name in names:
                image, mask = self._pairs[name]
                probability = segmenter.segment(image).probability
                self._save('probabilities', name, (255 * probability).round().astype(np.uint8))
                swept[name] = threshold_scores(probability, mask > 127)
        rows, thresholds = [], []
        for segmenter, names in zip(segmenters, self._folds):
            others = np.mean([scores for name, scores in swept.items() if name not in names], axis=0)
            thresholds.append(dict(zip(THRESHOLDS_FROM, (segmenter.threshold, best_threshold(others)[0]))))
            for name in names:
                row = {'name': name, 'fold': len(thresholds)}
                for source, threshold in thresholds[-1].items():
                    segmenter.threshold = threshold
                    found = segmenter.segment(self._pairs[name][0]).mask
                    row[source] = mask_scores(found, self._pairs[name][1] > 127)
                self._save('masks', name, found)
                rows.append(row)
        report = {
            'job': 'crossvalidate',
            'folds': [{'held_out': names, 'threshold': at} for names, at in zip(self._folds, thresholds)],
            'summary': {
                source: {metric: quartiles([row[source][metric] for row in rows]) for metric in rows[0][source]}
                for source in THRESHOLDS_FROM
            },
            'images': sorted(rows, key=lambda row: row['name']),
        }
        write_json(self.file, report)
        return report

    def _folder(self, fold):
        return self._out / f'fold{fold + 1}'

    def _save(self, folder, name, picture):
        (self._out / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(self._out / folder / f'{name}.png'), picture)


def summary_table(report):
    """Return a rich table of a report of `CrossValidation.score`: median (quartiles)."""
    table = Table(title=f'{len(report["images"])} pictures, each by the fold that left it out: median (quartiles)')
    table.add_column('threshold from')
    for source in THRESHOLDS_FROM:
        table.add_column(source, justify='right')
    for metric in report['summary'][THRESHOLDS_FROM[0]]:
        figures = [summary[metric] for summary in report['summary'].values()]
        table.add_row(metric, *(f'{v["median"]:.3f} ({v["q1"]:.3f}-{v["q3"]:.3f})' for v in figures))
    return table
