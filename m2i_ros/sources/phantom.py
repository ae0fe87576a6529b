"""The simulated patient as a source."""

from m2i_ros.sources.source_frame import SourceError, SourceFrame


class PhantomSource:
    """An injection into a simulated vessel tree, with its exact truth (`m2i_ros.simulation.Phantom`).

    Frames have no names. Raises SourceError for an unknown anatomy or settings that the phantom refuses.
    """

    realtime = True
    skipped = ()

    def __init__(self, **settings):
        from m2i_ros.simulation import Phantom

        try:
            self.phantom = Phantom(**settings)
        except ValueError as error:
            raise SourceError(f'phantom: {error}') from error
        self.model = self.phantom.model
        self.camera = self.phantom.camera
        self.initial_pose = self.phantom.initial_pose
        self.frame_rate = self.phantom.frame_rate

    def __len__(self):
        """Return the number of frames of one injection."""
        return len(self.phantom)

    def __iter__(self):
        """Yield a `SourceFrame` a simulated frame, rendered when it is asked for."""
        for index in range(len(self.phantom)):
            frame = self.phantom[index]
            yield SourceFrame(frame.image, frame.stamp, '', self.camera, frame.T_image_model, frame.mask)
