"""replay: runs the pipeline over a recording, every frame, without a ROS graph; same input, same output.

ros2 run m2i_ros replay CASE_OR_BAG --output BAG
"""

import argparse
import sys
import time
from pathlib import Path

from rich.progress import track

from m2i_ros.pipeline import Frame, FrameError, Pipeline
from m2i_ros.recording.bag import BagWriter, typestore
from m2i_ros.recording.messages import Messages, status_values
from m2i_ros.recording.report import summary_table, write_json
from m2i_ros.recording.session import Session
from m2i_ros.registration import Registrar
from m2i_ros.sources import SourceError, open_case, open_model
from m2i_ros.sources.phantom import PhantomSource

# The first frame of a recording that states no time of day; 0 means "the latest" to tf2.
FIRST_STAMP = 10**9


def open_recording(path):
    """Return the source that `path` names: a bag's folder, a case folder or its case.yaml, or phantom:ANATOMY:SEED.

    Raises SourceError.
    """
    if path.startswith('phantom:'):
        try:
            _, anatomy, seed = path.split(':')
            return PhantomSource(anatomy=anatomy, seed=int(seed))
        except ValueError as error:
            raise SourceError(f'{path}: must be like phantom:iliofemoral:0 ({error})') from error
    folder = Path(path)
    if folder.suffix in ('.mcap', '.db3') or (folder / 'metadata.yaml').exists():
        from m2i_ros.sources.bag import BagSource  # rosbags' reader takes half a second to import

        return BagSource(folder)
    return open_case(folder)


def replay(source, pipeline, bag, session, progress=iter):
    """Process every frame of a source; write the results to a `BagWriter` and note the figures in a `Session`.

    pipeline: `Pipeline`, its registration not begun. progress: turns the source into an iterator over its frames, and
    may show how far it is. Frames that the pipeline refuses are left out of the bag and counted as dropped.
    """
    session.model, session.camera = pipeline.registrar.model, source.camera
    origin = getattr(source, 'origin', FIRST_STAMP)
    messages = Messages(bag.types, getattr(source, 'frame_id', 'xray'))
    if source.initial_pose is not None:
        pipeline.registrar.set_initial_pose(source.initial_pose)
    for given in progress(source):
        stamp = origin + round(1e9 * given.stamp)
        session.image(stamp, time.perf_counter_ns(), given.image)
        try:
            result = pipeline.process(Frame(given.image, 1e-9 * stamp, given.camera))
        except FrameError as error:
            print(f'frame {given.name or stamp}: {error}', file=sys.stderr)
            continue
        for topic, kind, message in messages.of_result(result, stamp):
            bag.write(topic, kind, stamp, message)
        _note(session, stamp, given, result)


def _note(session, stamp, given, result):
    now = time.perf_counter_ns()
    registration = result.registration
    session.mask(stamp, now, result.vessels.mask)
    times = {f'{stage}_ms': str(1e3 * seconds) for stage, seconds in result.latency.items()}
    session.status(now, {**status_values(result, stamp), **times})
    if registration.accepted:
        session.pose(stamp, registration.T_image_model)
    if given.mask is not None:
        session.true_mask(stamp, given.mask)
    if given.T_image_model is not None:
        session.true_pose(stamp, given.T_image_model)


def main(argv=None):
    """Run the command; return the exit code: 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(prog='replay', description=__doc__.splitlines()[0])
    parser.add_argument('recording', help='case folder, bag folder, or phantom:ANATOMY:SEED')
    parser.add_argument('--output', required=True, help='folder of the bag to write; its figures go to OUTPUT.json')
    parser.add_argument('--model', default='', help='vessel model, where it is not the recording that names it')
    parser.add_argument('--units', default='mm', help='unit of a mesh file (mm)')
    parser.add_argument('--axes', default='lps', help='axes of a mesh file (lps)')
    parser.add_argument('--weights', default='default', help='name or path of segmentation weights')
    parser.add_argument('--engine', default='auto', help='inference engine (auto)')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads of the engine (2)')
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except (ValueError, OSError) as error:
        print(f'replay: {error}', file=sys.stderr)
        return 2


def _run(arguments):
    from m2i_ros.segmentation import Segmenter

    output = Path(arguments.output)
    if output.exists():
        raise SourceError(f'{output}: exists already: give a new folder')
    source = open_recording(arguments.recording)
    model = open_model(arguments.model, arguments.units, arguments.axes) if arguments.model else source.model
    if model is None:
        print('replay: no model (--model FILE): vessels are found, nothing is registered', file=sys.stderr)
    segmenter = Segmenter(arguments.weights, arguments.engine, arguments.threads)
    session = Session()
    stopped = False

    def progress(frames):
        return track(frames, f'replaying {arguments.recording}', total=len(source))

    with BagWriter(output, typestore()) as bag:
        try:
            replay(source, Pipeline(segmenter, Registrar(model)), bag, session, progress)
        except KeyboardInterrupt:  # what was done so far is kept
            stopped = True
    session.close()
    info = segmenter.info
    engine = {'engine': info['engine'], 'weights': info['weights'], 'weights_hash': info['hash']}
    report = {**session.report(), **engine, 'recording': arguments.recording, 'complete': not stopped}
    write_json(output.with_name(output.name + '.json'), report)
    print(summary_table(report))
    print(f'  {"stopped early: " if stopped else ""}written to {output} and {output}.json')
    return 130 if stopped else 0


if __name__ == '__main__':
    sys.exit(main())
