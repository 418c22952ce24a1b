"""What a config costs beside its plain twin: parameters, operations, time."""

from .batch import synthetic_batch
from .complexity import input_size, multiply_adds
from .subjects import (
    MODES,
    Conditions,
    Subject,
    backbone_subject,
    config_subject,
    layer_subject,
)
from .switch import CONV_TYPES, PLAIN, parse_conv_type, switch_convs
from .timing import (
    Ratio,
    Trainee,
    interleave,
    is_out_of_memory,
    saved_bytes,
    wait,
)
from .twin import build_model, library, plain_twin, switched

__all__ = [
    'CONV_TYPES',
    'MODES',
    'PLAIN',
    'Conditions',
    'Ratio',
    'Subject',
    'Trainee',
    'backbone_subject',
    'build_model',
    'config_subject',
    'input_size',
    'interleave',
    'is_out_of_memory',
    'layer_subject',
    'library',
    'multiply_adds',
    'parse_conv_type',
    'plain_twin',
    'saved_bytes',
    'switch_convs',
    'switched',
    'synthetic_batch',
    'wait',
]
