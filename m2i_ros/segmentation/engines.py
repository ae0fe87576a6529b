"""What runs the network.

An engine is called with what the network sees, (1, pictures, H, W) float32, H and W multiples of the weights'
`multiple`, and answers the (H, W) float32 probability. It is for one thread at a time, and imports its library when it
is made.
"""

from importlib.util import find_spec

import numpy as np

from m2i_ros.inference import openvino_core
from m2i_ros.segmentation.weights import WeightsError

# Two looks at the pictures of two planes.
_SIZES = 4


class OpenVinoEngine:
    """Runs NAME.onnx by OpenVINO, in float32 wherever it runs so that the same picture gets the same mask.

    The network is compiled for each picture size (0.1 to 0.5 s); those of the last `_SIZES` sizes are kept.
    """

    library, reads = 'openvino', 'onnx'

    def __init__(self, weights, threads):
        self.path = weights.file(self.reads)
        self._core = openvino_core()
        self._settings = {
            'INFERENCE_NUM_THREADS': threads,
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': 'f32',
        }
        self._requests = {}

    def __call__(self, image):
        # The last used comes last.
        request = self._requests.pop(image.shape, None) or self._compiled(image.shape)
        self._requests[image.shape] = request
        request.infer([image], share_inputs=True)
        return request.get_output_tensor().data[0, 0].copy()

    def _compiled(self, shape):
        if len(self._requests) == _SIZES:
            del self._requests[next(iter(self._requests))]
        model = self._core.read_model(self.path)
        model.reshape(list(shape))
        return self._core.compile_model(model, 'CPU', self._settings).create_infer_request()


class OpenVinoInt8Engine(OpenVinoEngine):
    """Runs NAME.int8.onnx by OpenVINO: most convolutions in integers of 8 bits, the rest in float32."""

    reads = 'int8'


class OnnxRuntimeEngine:
    """Runs NAME.onnx by ONNX Runtime on the CPU."""

    library, reads = 'onnxruntime', 'onnx'

    def __init__(self, weights, threads):
        import onnxruntime

        self.path = weights.file(self.reads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self._session = onnxruntime.InferenceSession(str(self.path), options, providers=['CPUExecutionProvider'])

    def __call__(self, image):
        return self._session.run(None, {'image': image})[0][0, 0]


class TorchEngine:
    """Runs NAME.pt by PyTorch on the CPU: the reference. Sets the number of torch's threads in this process."""

    library, reads = 'torch', 'pt'

    def __init__(self, weights, threads):
        import torch

        from m2i_ros.segmentation.network import DeepResidualUNet

        self.path = weights.file(self.reads)
        self._torch = torch
        torch.set_num_threads(threads)
        self._network = DeepResidualUNet(**weights.network)
        self._network.load_state_dict(torch.load(self.path, weights_only=True)['state_dict'])
        self._network.eval().to(memory_format=torch.channels_last)

    def __call__(self, image):
        with self._torch.inference_mode():
            logits = self._network(self._torch.from_numpy(np.ascontiguousarray(image)))
            return self._torch.sigmoid(logits)[0, 0].numpy()


# In the order in which 'auto' looks for them.
ENGINES = {
    'openvino_int8': OpenVinoInt8Engine,
    'openvino': OpenVinoEngine,
    'onnxruntime': OnnxRuntimeEngine,
    'torch': TorchEngine,
}


def make_engine(name, weights, threads):
    """Return (name, engine). `name` is one of ENGINES or 'auto': the first that is installed and has its file.

    Raises ValueError for an engine that is unknown or not installed, WeightsError where the file it reads is missing.
    """
    if name != 'auto' and name not in ENGINES:
        raise ValueError(f'engine {name!r} is unknown: use one of auto, {", ".join(ENGINES)}')
    installed = [engine for engine, kind in ENGINES.items() if find_spec(kind.library)]
    if name == 'auto':
        if not installed:
            libraries = dict.fromkeys(kind.library for kind in ENGINES.values())
            raise ValueError(f'no inference engine is installed: pip install one of {", ".join(libraries)}')
        name = next((engine for engine in installed if weights.file(ENGINES[engine].reads).is_file()), installed[-1])
    elif name not in installed:
        others, library = ', '.join(['auto', *installed]), ENGINES[name].library
        raise ValueError(f'engine {name!r} is not installed: pip install {library}, or use one of {others}')
    path = weights.file(ENGINES[name].reads)
    if not path.is_file():
        remedy = 'make it by `train quantize`' if ENGINES[name].reads == 'int8' else 'export the weights again'
        raise WeightsError(f'{path} is missing: engine {name!r} reads it; {remedy}')
    return name, ENGINES[name](weights, threads)
