"""What a config costs beside its plain twin: size, time, memory, scores."""

from .complexity import input_size, multiply_adds, parameters
from .configs import (
    CONV_TYPES,
    build_model,
    conv_cfgs,
    library,
    parse_conv_type,
    plain_twin,
    switched,
)

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
    'switched',
]
