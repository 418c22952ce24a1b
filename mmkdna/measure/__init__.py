"""What a config costs beside its plain twin: size, time, memory, scores."""

from .batch import synthetic_batch
from .complexity import input_size, multiply_adds, parameters
from .switch import CONV_TYPES, conv_cfgs, parse_conv_type, switch_convs
from .twin import build_model, library, plain_twin, switched

__all__ = [
    'CONV_TYPES',
    'build_model',
    'conv_cfgs',
    'input_size',
    'library',
    'multiply_adds',
    'parameters',
    'parse_conv_type',
    'plain_twin',
    'switch_convs',
    'switched',
    'synthetic_batch',
]
