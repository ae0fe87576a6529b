"""CameraInfo messages to `Camera` and back."""

from m2i_ros.geometry import Camera


def camera_from_info(message):
    """Return the `Camera` that a sensor_msgs/CameraInfo states, of the picture as sent: after region and binning.

    K (and the sign of its fx, which says how the picture is stored) counts, not P; lens distortion does not exist in
    X-ray pictures of a flat detector. Raises ValueError for a K that is no pinhole, a skewed K, and distortion.
    """
    k = message.k
    if not any(k):
        raise ValueError(
            'camera_info: K is all zeros, so the C-arm geometry is unknown: publish |fx| = source-to-detector '
            'distance / pixel spacing'
        )
    if k[1] or k[3] or k[6] or k[7] or k[8] != 1:
        raise ValueError(f'camera_info: K = {list(k)} must be [fx 0 cx 0 fy cy 0 0 1]')
    if any(message.d):
        raise ValueError('camera_info: lens distortion is not supported: send rectified pictures and an empty D')
    roi = message.roi
    width, height = roi.width or message.width, roi.height or message.height
    x, y = max(1, message.binning_x), max(1, message.binning_y)
    # A binned pixel covers x by y pixels of the full picture: its centre lies at their centre.
    return Camera(
        width // x,
        height // y,
        k[0] / x,
        k[4] / y,
        (k[2] - roi.x_offset - (x - 1) / 2) / x,
        (k[5] - roi.y_offset - (y - 1) / 2) / y,
    )


def fill_camera_info(message, header, camera):
    """Fill a sensor_msgs/CameraInfo with a header and a `Camera`, and return it.

    A picture stored as displayed has fx < 0 in K and P.
    """
    message.header = header
    message.width, message.height = camera.width, camera.height
    message.distortion_model = 'plumb_bob'
    message.d = []
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message
