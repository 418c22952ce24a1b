"""What a config costs beside its plain twin: size, time, memory."""

from .batch import synthetic_batch
from .complexity import input_size, multiply_adds
from .rows import saved_rows, timed_rows
from .saved import equalise, saved_bytes
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
    'equalise',
    'input_size',
    'interleave',
    'is_out_of_memory',
    'layer_subject',
    'library',
    'multiply_adds',
    'parse_conv_type',
    'plain_twin',
    'saved_bytes',
    'saved_rows',
    'switch_convs',
    'switched',
    'synthetic_batch',
    'timed_rows',
    'wait',
]
