"""replay: runs the pipeline over recordings, every frame, without a ROS graph; same input, same output.

ros2 run m2i_ros replay INPUT... --output OUT
ros2 run m2i_ros replay --compare A B
"""

import argparse
import gc
import json
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from m2i_ros.pipeline import APART, Frame, FrameError, Pipeline
from m2i_ros.recording.bag import BagWriter, typestore
from m2i_ros.recording.messages import Messages, status_values
from m2i_ros.recording.report import summary_table, write_json
from m2i_ros.recording.session import Session
from m2i_ros.registration import Registration, RegistrationSettings, State
from m2i_ros.registration.no_model import NoModel
from m2i_ros.registration.start import pose_from_view
from m2i_ros.ros.parameters import BAG, DICOM, PARAMETERS, c_arm_of, from_file, group, second_by_angles
from m2i_ros.ros.stamps import seconds_of
from m2i_ros.sources import SourceError, kind_of, open_model, open_source, start_by_view
from m2i_ros.sources.look_ahead import look_ahead
from m2i_ros.sources.source_frame import with_second

# The first frame of a recording that states no time of day; 0 means "the latest" to tf2.
FIRST_STAMP = 10**9
ROWS = PARAMETERS + BAG + DICOM
OPTIONS = {
    'model': 'model.path',
    'units': 'model.units',
    'axes': 'model.axes',
    'weights': 'segmentation.weights',
    'engine': 'segmentation.engine',
    'threads': 'segmentation.threads',
}
AHEAD = 4  # frames decoded, and frames segmented, while one is registered and written
PROGRESS_PERIOD = 0.2  # seconds between two words of a worker

_words = None  # of a worker process: the queue of (input, frames done, frames in all)


class SettingsError(ValueError):
    """Weights, engine or model that the parameters name cannot be used: no recording can be replayed."""


def open_recording(path, parameters, named_model=lambda: None):
    """Return the source that `path` names: whatever `kind_of` knows, or phantom:ANATOMY:SEED.

    parameters: {name: value} of `ROWS`. named_model: function that returns the model they name, or None.
    Raises SourceError.
    """
    if path.startswith('phantom:'):
        try:
            _, anatomy, seed = path.split(':')
            return open_source('phantom', anatomy=anatomy, seed=int(seed))
        except ValueError as error:
            raise SourceError(f'{path}: must be like phantom:iliofemoral:0 ({error})') from error
    kind = kind_of(path)
    settings = group(parameters, kind) if kind in ('bag', 'dicom') else {}
    if kind == 'dicom':
        settings['start'] = start_by_view(settings.pop('isocentre'), named_model)
    return open_source(kind, path, **settings)


def _named_model(parameters):
    """Return the model that parameters name, or None. Raises SettingsError."""
    path = parameters['model.path']
    try:
        return open_model(path, parameters['model.units'], parameters['model.axes']) if path else None
    except (ValueError, OSError) as error:
        raise SettingsError(str(error)) from error


def make_segmenter(parameters):
    """Return the `Segmenter` that the nodes would make of the values of `ros.parameters`, ready for use.

    Raises SettingsError.
    """
    from m2i_ros.segmentation import Segmenter

    settings = group(parameters, 'segmentation')
    try:
        segmenter = Segmenter(
            settings['weights'],
            settings['engine'],
            settings['threads'],
            settings['threshold'] or None,
            settings['largest_side'],
            settings['polarity'],
            settings['reference'],
        )
    except (ValueError, OSError) as error:
        raise SettingsError(str(error)) from error
    segmenter.warm_up()
    return segmenter


def make_pipeline(parameters, segmenter, model):
    """Return the `Pipeline` that the nodes would make of the values of `ros.parameters`, for a model or None."""
    if model is None:
        return Pipeline(segmenter, NoModel())
    from m2i_ros.registration import Registrar

    registrar = Registrar(model, RegistrationSettings(**group(parameters, 'registration')))
    view = group(parameters, 'view')
    if view['source_to_isocentre']:
        registrar.set_initial_pose(pose_from_view(model, c_arm_of(view)))
    return Pipeline(segmenter, registrar)


def replay(source, pipeline, bag, session, progress=lambda done: None, apart=APART, T_second_image=None):
    """Process every frame of a source; write frames and results to a `BagWriter` and note the figures in a `Session`.

    pipeline: `Pipeline`, its registration not begun. progress: called with the number of frames done before each.
    apart, T_second_image: of a second plane, see `with_second`.
    Return how many frames the pipeline refused: they have a status in the bag, but no mask.

    Decoding, segmentation, and registration with writing have a thread each. Each of them gets every frame, in order,
    so how they take turns changes nothing.
    """
    registrar = pipeline.registrar
    session.model, session.camera = registrar.model, source.camera
    ids = {name: getattr(source, name) for name in ('frame_id', 'second_frame_id') if hasattr(source, name)}
    messages = Messages(bag.types, **ids)
    start = source.initial_pose
    state, refused = State.WAITING, 0
    second = {'apart': apart, 'T_second_image': T_second_image}
    with closing(look_ahead(_segmented(source, pipeline, second), AHEAD)) as segmented:
        for done, (given, stamp, frame, vessels) in enumerate(segmented):
            progress(done)
            if start is not None and given.initial_pose is None:
                given = replace(given, initial_pose=start)
            start = None
            if given.initial_pose is not None:
                registrar.set_initial_pose(given.initial_pose, given.initial_covariance)
            out = messages.of_frame(given, stamp)
            if isinstance(vessels, FrameError):
                refused += 1
                session.image(stamp, time.perf_counter_ns(), given.image)
                print(f'frame {given.name or seconds_of(stamp)}: {vessels}', file=sys.stderr)
                out.append(messages.of_registration(Registration(state, reason=str(vessels)), stamp))
            else:
                result = pipeline.register(frame, *vessels)
                state = result.registration.state
                out += messages.of_result(result, stamp, registrar.model)
                session.camera = given.camera or session.camera
                _note(session, stamp, given, result)
            for topic, kind, message in out:
                bag.write(topic, kind, stamp, message)
    return refused


def _segmented(source, pipeline, second):
    """Yield (`SourceFrame`, stamp in ns, `Frame`, what `Pipeline.segment` returns or the FrameError it raised)."""
    origin = getattr(source, 'origin', FIRST_STAMP)
    last, alone = 0, ''
    with closing(look_ahead(source, AHEAD)) as frames:
        for given in frames:
            stamp = origin + round(1e9 * given.stamp)
            if stamp < last:  # as the nodes do: another run
                pipeline.segmenter.reset()
            last = stamp
            frame = None
            try:
                frame = with_second(_frame(given, stamp), given, origin, **second)
                if frame.no_second not in ('', alone):  # of a thousand the first is told
                    alone = frame.no_second
                    print(f'frame {given.name or frame.stamp}: one view only: {alone}', file=sys.stderr)
                vessels = pipeline.segment(frame)
            except FrameError as error:
                vessels = error
            yield given, stamp, frame, vessels


def _frame(given, stamp):
    """Return the `Frame` of a `SourceFrame`, as the nodes make it: a camera of another size is left out."""
    frame = Frame(given.image, seconds_of(stamp), T_fixed_image=given.T_table_image)
    try:
        return replace(frame, camera=given.camera)
    except FrameError as error:
        print(f'frame {given.name or frame.stamp}: {error}', file=sys.stderr)
        return frame


def _note(session, stamp, given, result):
    now = time.perf_counter_ns()
    registration = result.registration
    # Latency is what its stages took: between them it waits for its turn, not for them.
    session.image(stamp, now - round(1e9 * sum(result.latency.values())), given.image)
    session.mask(stamp, now, result.vessels.mask)
    times = {f'{stage}_ms': str(1e3 * seconds) for stage, seconds in result.latency.items()}
    session.status(now, {**status_values(registration, stamp, result.vessels.contrast.value), **times})
    if registration.accepted:
        session.pose(stamp, registration.T_image_model)
    if given.mask is not None:
        session.true_mask(stamp, given.mask)
    if given.T_image_model is not None:
        session.true_pose(stamp, given.T_image_model)


def replay_file(path, output, parameters, progress=None):
    """Replay one recording into a new bag folder, with its figures in OUTPUT.json; return the report.

    path: see `open_recording`. parameters: {name: value} of `ROWS`; the model is the recording's
    own where they name none. progress: called with (frames done, frames in all).

    The report is that of a live session (`Session.report`) with: recording, refused (frames that the pipeline did not
    take), skipped (what of the recording could not be read, in words), complete (False: interrupted).
    Raises SettingsError, SourceError, or another ValueError or OSError with the reason.
    """
    path = str(path)
    named_model = cache(lambda: _named_model(parameters))
    with ThreadPoolExecutor(1) as beside:
        segmenter = beside.submit(make_segmenter, parameters)  # compiles the network while the recording is opened
        source = open_recording(path, parameters, named_model)
        model = named_model() or source.model
        types = typestore()
        pipeline = make_pipeline(parameters, segmenter.result(), model)
    info = pipeline.segmenter.info
    session, refused, stopped = Session(), 0, False
    with BagWriter(output, types) as bag:
        for key, value in _description(parameters, info, model).items():
            bag.describe(key, value)
        try:
            refused = replay(
                source,
                pipeline,
                bag,
                session,
                lambda done: progress and progress(done, len(source)),
                parameters['second.tolerance'],
                second_by_angles(group(parameters, 'view'), group(parameters, 'second')),
            )
        except KeyboardInterrupt:  # what was done so far is kept
            stopped = True
    session.close()
    report = {
        **session.report(),
        'engine': info['engine'],
        'weights': info['weights'],
        'weights_hash': info['hash'],
        'model': model.name if model else '',
        'model_hash': model.hash if model else '',
        'recording': path,
        'refused': refused,
        'skipped': [str(each) for each in source.skipped],
        'complete': not stopped,
    }
    write_json(output.with_name(output.name + '.json'), report)
    return report


def _description(parameters, info, model):
    """Return what is noted in the bag: {key: text}."""
    return {
        'engine': info['engine'],
        'weights': info['weights'],
        'weights_hash': info['hash'],
        'model': model.name if model else '',
        'model_hash': model.hash if model else '',
        'parameters': json.dumps(parameters, sort_keys=True),
    }


def parameters_from(file=None, **options):
    """Return {name: value} of `ROWS`: defaults, before them those of a parameter file, before them the options.

    options: those of `OPTIONS` that are not None. Raises ValueError where a value is refused.
    """
    values = {row.name: row.default for row in ROWS}
    if file:
        values.update(from_file(file, ROWS))
    values.update({OPTIONS[name]: value for name, value in options.items() if value is not None})
    for row in ROWS:
        if refusal := row.refusal(values[row.name]):
            raise ValueError(refusal)
    return values


def main(argv=None):
    """Run the command; return the exit code: 0 all went well or is the same, 1 something failed or differs, 2 usage."""
    parser = argparse.ArgumentParser(prog='replay', description=__doc__.splitlines()[0])
    parser.add_argument('input', nargs='*', help='case, bag, folder of pictures, or phantom:ANATOMY:SEED')
    parser.add_argument('--output', help='bag to write, figures to OUTPUT.json; of several inputs a folder of both')
    parser.add_argument('--compare', nargs=2, metavar=('A', 'B'), help='tell how two replays (or recordings) differ')
    parser.add_argument('--json', help='with --compare: file for the figures')
    parser.add_argument('--jobs', type=int, default=1, help='recordings at a time, each with --threads (1)')
    parser.add_argument('--params', help='parameter file as config/pipeline.yaml; the options below go before it')
    parser.add_argument('--model', help='vessel model, where it is not the recording that names it')
    parser.add_argument('--units', help='unit of a mesh file (mm)')
    parser.add_argument('--axes', help='axes of a mesh file (lps)')
    parser.add_argument('--weights', help='name or path of segmentation weights (default)')
    parser.add_argument('--engine', help='inference engine (auto)')
    parser.add_argument('--threads', type=int, help='CPU threads of the engine (2)')
    arguments = parser.parse_args(argv)
    if arguments.compare and not arguments.input and not arguments.output:
        return _compare(arguments)
    if arguments.compare or not arguments.input or not arguments.output or arguments.jobs < 1:
        parser.print_usage(sys.stderr)
        print('replay: INPUT... and --output OUT are needed, or --compare A B alone; --jobs from 1 on', file=sys.stderr)
        return 2
    try:
        parameters = parameters_from(arguments.params, **{name: getattr(arguments, name) for name in OPTIONS})
        outputs = _outputs(arguments.input, Path(arguments.output))
        code = _replay_all(outputs, parameters, arguments.jobs)
        gc.freeze()  # the process ends: to look through all it holds for what could be freed takes a quarter second
        return code
    except (ValueError, OSError) as error:
        print(f'replay: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _outputs(inputs, output):
    """Return {input: bag to write}. Raises ValueError where one is there already."""
    if len(inputs) == 1:
        outputs = {inputs[0]: output}
    else:
        seen = Counter()
        outputs = {}
        for path in dict.fromkeys(inputs):
            name = path.replace(':', '_') if path.startswith('phantom:') else Path(path).resolve().name
            seen[name] += 1
            outputs[path] = output / (name if seen[name] == 1 else f'{name}_{seen[name]}')
    for path in (output, *outputs.values()):
        if path.exists() and (path != output or len(inputs) == 1 or not path.is_dir()):
            raise ValueError(f'{path}: exists already: give a new folder')
    return outputs


def _replay_all(outputs, parameters, jobs):
    """Replay each input, some at a time; tell of each; return the exit code. Raises SettingsError."""
    failed, reports = [], {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('replaying', total=None)
        sizes = {}

        def told(path, done, total):
            sizes[path] = (done, total)
            known = sum(total for _, total in sizes.values())
            bar.update(task, completed=sum(done for done, _ in sizes.values()), total=known * len(outputs) / len(sizes))

        for path, report in _run(outputs, parameters, jobs, told):
            if isinstance(report, SettingsError):
                raise report
            if isinstance(report, Exception):
                failed.append(path)
                words = f'replay: {path}: failed: {report}'
                bar.console.print(words, markup=False, highlight=False, soft_wrap=True)
            else:
                reports[path] = report
    for path, report in reports.items():
        print(f'{path}\n{summary_table(report)}')
        print(f'  {"" if report["complete"] else "stopped early: "}written to {outputs[path]} and {outputs[path]}.json')
    incomplete = [path for path, report in reports.items() if report['skipped'] or report['refused']]
    for path in incomplete:
        report = reports[path]
        print(f'replay: {path}: {report["refused"]} frames refused, not read: {report["skipped"]}', file=sys.stderr)
    if len(outputs) > 1:
        print(f'{len(reports)} of {len(outputs)} replayed, {len(failed)} failed, {len(incomplete)} with frames missing')
    if any(not report['complete'] for report in reports.values()):
        return 130
    return 1 if failed or incomplete or len(reports) < len(outputs) else 0


def _run(outputs, parameters, jobs, told):
    """Yield (input, report or the exception that ended it)."""
    if jobs == 1 or len(outputs) == 1:
        for path, output in outputs.items():
            report = _attempt(path, output, parameters, lambda done, of, path=path: told(path, done, of))
            yield path, report
            if not isinstance(report, Exception) and not report['complete']:
                return
        return
    # Spawned: a fork would inherit the engines' threads.
    context = multiprocessing.get_context('spawn')
    words = context.SimpleQueue()
    with ProcessPoolExecutor(jobs, context, _begin_worker, (words,)) as pool:
        futures = {pool.submit(_attempt, path, output, parameters): path for path, output in outputs.items()}
        try:
            waiting = set(futures)
            while waiting:
                while not words.empty():
                    told(*words.get())
                done = {future for future in waiting if future.done()}
                for future in done:
                    yield futures[future], future.exception() or future.result()
                waiting -= done
                time.sleep(0 if done else PROGRESS_PERIOD / 2)
        except BaseException:  # interrupted, or nobody asks for the others any more
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker(words):
    global _words
    _words = words


def _attempt(path, output, parameters, progress=None):
    """Return the report of one replay, or the exception that ended it."""
    last = 0.0

    def tell(done, of):
        nonlocal last
        if time.monotonic() - last > PROGRESS_PERIOD:
            last = time.monotonic()
            _words.put((path, done, of)) if progress is None else progress(done, of)

    try:
        return replay_file(path, output, parameters, tell)
    except (ValueError, OSError) as error:
        return error


def _compare(arguments):
    from m2i_ros.recording.compare import compare, difference_table

    try:
        found = compare(*arguments.compare)
        if arguments.json:
            write_json(arguments.json, found)
    except (ValueError, OSError) as error:
        print(f'replay: {error}', file=sys.stderr)
        return 2
    print(difference_table(found))
    return 0 if found['same'] else 1


if __name__ == '__main__':
    sys.exit(main())
