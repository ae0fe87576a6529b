"""The simulated patient as a source."""

import math

from m2i_ros.geometry import CArm, inverse
from m2i_ros.sources.source_frame import SecondPicture, SourceError, SourceFrame


class PhantomSource:
    """An injection into a simulated vessel tree, with its exact truth (`m2i_ros.simulation.Phantom`).

    second_angle_deg: where not 0, a second plane sees it as well, turned so far about the patient's long axis.
    settings: of the phantom. Frames have no names. Raises SourceError for an unknown anatomy or settings that the
    phantom refuses.
    """

    realtime = True
    skipped = ()

    def __init__(self, second_angle_deg=0.0, **settings):
        from m2i_ros.simulation import Phantom

        try:
            self.phantom = Phantom(**settings)
            turned = CArm(math.radians(second_angle_deg))
            self.second = Phantom(**settings, c_arm=turned, plane=1) if second_angle_deg else None
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
            seen = {'c_arm': frame.c_arm, 'table': frame.table} if self.phantom.moves else {}
            if self.second:
                T = self.second.c_arm.T_image_isocentre @ inverse(self.phantom.c_arm.T_image_isocentre)
                picture = SecondPicture(self.second[index].image, frame.stamp, self.second.camera, T)
                seen = {**seen, 'c_arm': self.phantom.c_arm, 'second': picture}
            yield SourceFrame(frame.image, frame.stamp, '', self.camera, frame.T_image_model, frame.mask, **seen)
