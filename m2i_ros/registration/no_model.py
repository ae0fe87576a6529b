"""What is said where there is no model to register."""

from m2i_ros.registration.result import Registration, State

NO_MODEL = 'no model'


class NoModel:
    """Stands in for a `Registrar` where there never will be a model: nothing is compiled, everything waits."""

    model = None

    def register(self, vessels, camera, stamp, *others, **system):
        """Return a `Registration` that waits."""
        return Registration(State.WAITING, reason=NO_MODEL)

    def set_initial_pose(self, T_image_model, covariance=None):
        """Take no notice: there is nothing to place."""
