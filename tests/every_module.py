"""What holds for every module of the libraries, plain and as KernelDNA.

A case is the arguments of a class and its inputs; :func:`check` builds the
class plain and ours and compares. The tests of backbones, necks and heads
each hold a table of cases for each library, which lists all that is
registered.
"""

import copy
import importlib
import inspect
from typing import NamedTuple

import pytest
import torch
from helpers import perturb_adapters
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn

import mmkdna

LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')
SEEDS = 3
SIGMAS = 6


class Case(NamedTuple):
    """A class's arguments, and what its forward gets."""

    library: str
    name: str
    switch: str
    """``'conv_cfg'`` or ``'kernel_dna'``."""
    arguments: dict
    inputs: tuple
    """Tensors by their shapes; other values as they are.

    Where they depend on the mode, one dict by whether it is training.
    """
    forms: bool
    """Whether any family forms."""

    def __str__(self):
        return f'{self.library}.{self.name}-{self.switch}'


def registered(library, *kinds):
    """Classes by name whose module is in a package of one of these names."""
    importlib.import_module(f'{library}.models')
    registry = importlib.import_module(f'{library}.registry').MODELS
    return {
        name: cls
        for name, cls in registry.module_dict.items()
        if inspect.isclass(cls)
        and cls.__module__.startswith(f'{library}.')
        and {*kinds} & {*cls.__module__.split('.')[2:-1]}
    }


def takes_conv_cfg(cls):
    """Whether a class, or one that it passes all on to, has the argument."""
    for base in cls.__mro__:
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            if 'conv_cfg' in parameters:
                return True
            if all(p.kind != p.VAR_KEYWORD for p in parameters.values()):
                return False
    return False


def cases(tables, nothing, by_key=(), slow=()):
    """The cases of tables ``{library: {name: (arguments, *inputs)}}``.

    Args:
        tables: What is covered.
        nothing: Names by library and switch for which no family forms.
        by_key: Names that take a ``conv_cfg`` and yet fail with one.
        slow: Names that take seconds.

    A class that takes a ``conv_cfg`` and forms nothing by it has the other
    switch, too.
    """
    found = []
    for library, table in tables.items():
        classes = registered(library, *KINDS)
        for name, (arguments, *inputs) in table.items():
            takes = takes_conv_cfg(classes[name]) and name not in by_key
            switches = ['conv_cfg' if takes else 'kernel_dna']
            if name in nothing.get((library, 'conv_cfg'), ()):
                switches = ['conv_cfg', 'kernel_dna']
            for each in switches:
                forms = name not in nothing.get((library, each), ())
                case = Case(library, name, each, arguments, inputs, forms)
                marks = [pytest.mark.slow] if name in slow else []
                found.append(pytest.param(case, id=str(case), marks=marks))
    return found


KINDS = (
    'backbones',
    'necks',
    'heads',
    'dense_heads',
    'decode_heads',
    'roi_heads',
    'seg_heads',
    'tracking_heads',
)


def build(case, kernel_dna):
    """A fresh module, of its own copy of the arguments."""
    registry = importlib.import_module(f'{case.library}.registry').MODELS
    init_default_scope(case.library)
    cfg = dict(type=case.name, **copy.deepcopy(case.arguments))
    if kernel_dna and case.switch == 'conv_cfg':
        cfg['conv_cfg'] = dict(type='KernelDNA', min_channels=4)
    elif kernel_dna:
        sizes = (1, 3, 5, 7)
        cfg['kernel_dna'] = dict(
            min_channels=4, linear=True, kernel_sizes=sizes
        )
    return registry.build(cfg)


def check(case, log):
    """All that holds for a module; see the functions that it calls."""
    plain, ours = start(case, False, 0), start(case, True, 0)
    families = mmkdna.list_families(ours)
    assert bool(families) == case.forms
    assert families or 'No family forms in ' in log.text
    check_start(case, plain, ours)
    wake(plain)
    make_children_as_parents(plain, families)
    load(ours, plain)
    assert_equal(run(case, ours, False), run(case, plain, False), 1e-5)
    check_gradients(case, plain, ours)
    check_own_checkpoint(case, ours)


def start(case, kernel_dna, seed):
    """A new module, initialised."""
    torch.manual_seed(seed)
    module = build(case, kernel_dna)
    torch.manual_seed(seed)
    if hasattr(module, 'init_weights'):
        module.init_weights()
    return module


def check_start(case, plain, ours):
    """``init_weights`` draws each layer from the plain one's distribution.

    A child's plain twin draws, too, so mostly the numbers are the same. Else
    the first two moments are, within their sampling errors.
    """
    expected = dict(plain.named_parameters())
    found = dict(ours.named_parameters())
    adapters = {name for name in found if 'adapter' in name.split('.')}
    children = {name.rpartition('.adapter.')[0] for name in adapters}
    assert {f'{name}.weight' for name in children} == {*expected} - {*found}
    assert {*found} - adapters <= {*expected}
    other = [
        name
        for name in found.keys() - adapters
        if not torch.equal(found[name], expected[name])
    ]
    if not other:
        return
    # Other seeds, so that no draw is compared with itself.
    plains = [plain, *(start(case, False, n) for n in range(1, SEEDS))]
    all_ours = [ours, *(start(case, True, -n) for n in range(1, SEEDS))]
    for name in other:
        a, b = (
            torch.cat([m.get_parameter(name).flatten() for m in modules])
            for modules in (plains, all_ours)
        )
        a, b = a.detach().double(), b.detach().double()
        for x, y in ((a, b), ((a - a.mean()) ** 2, (b - b.mean()) ** 2)):
            error = (x.var() / len(x) + y.var() / len(y)).sqrt()
            gap = (x.mean() - y.mean()).abs()
            assert gap <= SIGMAS * error + 1e-7, (name, a.std(), b.std())


def make_children_as_parents(plain, families):
    """Give the plain twins of children the kernels of their parents."""
    with torch.no_grad():
        for family in families:
            parent = plain.get_submodule(family.parent.name)
            for name, _ in family.children:
                plain.get_submodule(name).weight.copy_(parent.weight)


def wake(module):
    """Move norms and what starts at zero, and so would hide its layers."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
            elif not parameter.any():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)


def load(module, other):
    """Load another one's weights, as strictly as that one its own.

    Some classes delete the buffers that they compute from what they load.
    """
    found = module.load_state_dict(other.state_dict(), False)
    assert found == other.load_state_dict(other.state_dict(), False)


def run(case, module, training):
    """The tensors of a forward, on the same inputs whenever it is called."""
    torch.manual_seed(1)
    module.train(training)
    inputs = case.inputs
    if isinstance(inputs[0], dict):
        inputs = [inputs[0][training]]
    return list(tensors(module(*made(inputs))))


def made(inputs):
    """Inputs with a random tensor in the place of each shape."""
    if isinstance(inputs, torch.Size):
        return torch.randn(inputs)
    if callable(inputs):
        return inputs()
    if isinstance(inputs, (list, tuple)):
        return type(inputs)(made(each) for each in inputs)
    return inputs


def tensors(output):
    """The floating point tensors of a nested output."""
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, BaseDataElement):
        yield from tensors(dict(output.items()))
    elif isinstance(output, dict):
        yield from tensors(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from tensors(each)


def assert_equal(found, expected, relative):
    assert len(found) == len(expected) > 0
    for ours, plain in zip(found, expected, strict=True):
        assert plain.isfinite().all()
        gap = (ours - plain).norm() / plain.norm().clamp_min(1e-12)
        assert gap < relative


def check_gradients(case, plain, ours):
    """What has a gradient in the plain one has the same in ours.

    A parent's is the sum of its family's. All that a child has in the place
    of a kernel with a gradient has one, too.
    """
    for module in (plain, ours):
        outputs = run(case, module, True)
        torch.manual_seed(2)
        sum((o * torch.randn_like(o)).sum() for o in outputs).backward()
    expected = {n: p.grad for n, p in plain.named_parameters()}
    found = {n: p.grad for n, p in ours.named_parameters()}
    for family in mmkdna.list_families(ours):
        names = [f'{member.name}.weight' for member in family.members]
        grads = [expected.pop(name) for name in names]
        grads = [grad for grad in grads if grad is not None]
        expected[names[0]] = sum(grads) if grads else None
        for name, _ in family.children:
            adapter = {n for n in found if n.startswith(f'{name}.adapter.')}
            if plain.get_parameter(f'{name}.weight').grad is not None:
                assert all(found[n] is not None for n in adapter), name
                assert all(found[n].isfinite().all() for n in adapter), name
    largest = max(g.norm() for g in expected.values() if g is not None)
    for name, grad in expected.items():
        if grad is not None:
            assert grad.isfinite().all(), name
            assert found[name] is not None, name
            assert (found[name] - grad).norm() < 1e-3 * largest, name


def check_own_checkpoint(case, ours):
    """Trained adapters load strictly into a new module, to the same output."""
    before = run(case, ours, False)
    perturb_adapters(ours)
    trained = run(case, ours, False)
    assert case.forms == any(
        not torch.equal(a, b) for a, b in zip(before, trained, strict=True)
    )
    again = build(case, True)
    load(again, ours)
    assert_equal(run(case, again, False), trained, 1e-6)
