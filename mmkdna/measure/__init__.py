"""What a config costs beside its plain twin: parameters, operations, time."""

from .batch import synthetic_batch
from .complexity import input_size, multiply_adds
from .steps import Ratio, StepTimes, Trainee, interleaved_steps
from .twin import build_model, library, plain_twin

__all__ = [
    'Ratio',
    'StepTimes',
    'Trainee',
    'build_model',
    'input_size',
    'interleaved_steps',
    'library',
    'multiply_adds',
    'plain_twin',
    'synthetic_batch',
]
